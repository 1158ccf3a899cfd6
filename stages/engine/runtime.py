"""Where a run computes: device, precision, and the ranks of a multi-process launch."""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, distributed, nn

from stages.support.errors import UserError
from stages.support.seeds import mix

Net = TypeVar("Net", bound=nn.Module)
# Multiply-accumulates of an input: from where on a run takes several threads, and bf16 on a CPU that has instructions for it.
LARGE, WIDE = 10_000_000, 20_000_000
MOST = 4  # threads
Compile = Literal["teacher"] | bool  # all networks, or the teacher where no gradient is wanted


@dataclass(frozen=True)
class Runtime:
    """One process's place: `rank` of `world`, its device, and whether forwards run in bf16."""

    device: torch.device
    bf16: bool = False
    compile: Compile = False
    rank: int = 0
    world: int = 1

    def place(self, net: Net) -> Net:
        """Move a network here, channels-last: measured 1.7x faster for WRN-40-2 forwards on CPU, and what bf16 wants on GPU."""
        net = net.to(self.device).to(memory_format=torch.channels_last)
        if self.compile is True:
            net.compile()
        return net

    def autocast(self) -> AbstractContextManager[object]:
        """bf16 autocast where it is on. Casts are not cached: weights change while the context is open."""
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False) if self.bf16 else nullcontext()

    def average_(self, tensors: list[Tensor]) -> None:
        """Average floating-point tensors over all ranks, in place, in one collective."""
        if self.world > 1 and tensors:
            flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
            distributed.all_reduce(flat)
            flat /= self.world
            for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
                tensor.copy_(mean.view_as(tensor))

    def gather(self, mine: Tensor) -> Tensor:
        """The rows (n, ...) of all ranks, in rank order; every rank has n."""
        if self.world == 1:
            return mine
        rows = [torch.empty_like(mine) for _ in range(self.world)]
        distributed.all_gather(rows, mine.contiguous())
        return torch.cat(rows)

    def union(self, mine: Tensor) -> Tensor:
        """The rows (n, ...) of all ranks, in rank order, with a gradient to each rank's own.

        Every rank then computes a statistic of the whole batch. The gradient that reaches a rank's rows is that of the sum of all
        ranks' losses: parameters whose gradients are averaged over the ranks get those of one rank with the whole batch.
        """
        rows: Tensor = _Union.apply(mine, self) if self.world > 1 else mine
        return rows

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a number over all ranks, without a graph."""
        value = value.detach().clone()
        self.average_([value])
        return value

    def follow_first_(self, tensors: list[Tensor]) -> None:
        """Give every rank the first rank's values, in place."""
        if self.world > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def share(self, batch: int, key: str) -> int:
        """This rank's part of a batch; raises UserError where the ranks do not divide it."""
        if batch % self.world:
            raise UserError(
                f"{key} is {batch}, which {self.world} processes cannot share evenly; change `distill.batch`, the method's or "
                "their number"
            )
        return batch // self.world


def start(precision: str = "auto", compile: Compile = False, macs: int = 0, threads: int | None = None) -> Runtime:
    """The runtime of this process: the GPU of its local rank where there is one, else the CPU.

    `precision` is fp32, bf16, or auto: bf16 on GPUs, and on CPUs that have instructions for it where the largest network takes
    `macs` multiply-accumulates for an input or more. `threads` as in `threads_for`. Joins the other processes under torchrun.
    """
    torch.set_num_threads(threads_for(macs, threads))
    rank, world, local = _place()
    device = torch.device("cuda", local % torch.cuda.device_count()) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
        torch.backends.cudnn.allow_tf32 = precision != "fp32"  # on by default, for fp32 too
    if world > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    able = device.type == "cuda" or (macs >= WIDE and torch.cpu._is_avx512_bf16_supported())
    bf16 = precision == "bf16" or (precision == "auto" and able)
    return Runtime(device, bf16, compile, rank, world)


def _place() -> tuple[int, int, int]:
    """Rank, number of processes, and rank on this machine, as torchrun says; its variables alone may be left over from others."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        if os.environ.get("WORLD_SIZE", "1") != "1":
            print(
                f"WORLD_SIZE is '{os.environ['WORLD_SIZE']}', and torchrun did not start this process: it computes alone "
                "(for several use LAUNCH='torchrun ...', else unset WORLD_SIZE)",
                flush=True,
            )
        return 0, 1, 0
    rank, world, local = (int(os.environ[name]) for name in names)
    return rank, world, local


def threads_for(macs: int, asked: int | None = None) -> int:
    """The threads that a run on a CPU takes: what is `asked`, or OMP_NUM_THREADS, or what suits its largest network.

    Small networks take one, so that their numbers are the same with any number of cores, and a busy core makes no thread wait for
    another. Larger ones take up to four, as many as there are cores, or as OMP_THREAD_LIMIT allows.
    """
    if asked or "OMP_NUM_THREADS" in os.environ:
        return asked or torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return 1 if macs < LARGE else min(cores, MOST, int(os.environ.get("OMP_THREAD_LIMIT", MOST)))


class _Union(torch.autograd.Function):
    """Gather rows; their gradients are summed over the ranks on the way back."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, runtime: Runtime) -> Tensor:
        ctx.runtime = runtime
        return runtime.gather(mine)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total, runtime = gradient.contiguous().clone(), ctx.runtime
        distributed.all_reduce(total)
        return total.chunk(runtime.world)[runtime.rank], None


@contextmanager
def running(precision: str = "auto", compile: Compile = False, macs: int = 0, threads: int | None = None) -> Iterator[Runtime]:
    """`start`, and leave the process group at the end of the block."""
    runtime = start(precision, compile, macs, threads)
    try:
        yield runtime
    finally:
        if runtime.world > 1:
            distributed.destroy_process_group()


def seed(*numbers: int) -> None:
    """Seed torch's generators from a tuple of numbers, such as (seed, step, rank).

    Each step's draws then depend on nothing before it: a resumed run needs no saved generator state.
    """
    value = mix(*numbers)
    torch.default_generator.manual_seed(value)  # torch.manual_seed takes thirty times as long where there is no GPU
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(value)
