"""What a network costs for an input: operations, counted by torch's own formulas, and time."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class Counter(TorchDispatchMode):
    """Counts as torch's FlopCounterMode, but its first use does not import the compiler, over a second of every stage."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):  # of an exported program: not looked into
            return func(*args, **kwargs)
        kind = func._overloadpacket
        if kind not in flop_registry:
            with self:
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        answer = func(*args, **kwargs)
        if kind in flop_registry:
            self.operations += flop_registry[kind](*args, **kwargs, out_val=answer)
        return answer


@torch.no_grad()
def macs(net: nn.Module, example: Tensor) -> int:
    """Multiply-accumulates of convolutions and matrix products for an `example` (1, ...)."""
    with Counter() as counter:
        net(example)
    return counter.operations // 2


@torch.inference_mode()
def latency(answer: Callable[[Tensor], Any], example: Tensor, repeats: int = 30) -> float:
    """Median milliseconds for one `example` (1, ...) on one CPU thread, after five warm-up runs."""
    threads, times = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for _ in range(repeats + 5):
            begin = time.perf_counter()
            answer(example)
            times.append(1000 * (time.perf_counter() - begin))
    finally:
        torch.set_num_threads(threads)
    return statistics.median(times[5:])
