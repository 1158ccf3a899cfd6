"""What enters and leaves chosen modules of a network: hooks that stand only while somebody listens."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from stages.engine.teacher import Teacher
from stages.losses.precision import full
from stages.losses.synthesis import Moments
from stages.networks.adapter import Adapter
from stages.support.errors import UserError


@contextmanager
def listening(modules: Sequence[nn.Module], outputs: bool = False) -> Iterator[list[Tensor]]:
    """A list that holds, after a forward within the block, the input of each of `modules`, in their order, or the output.

    A second forward overwrites it. Outputs are copies: an in-place activation after the module would change them.
    """
    heard: list[Tensor] = [torch.empty(0)] * len(modules)

    def note(place: int, tensor: Tensor) -> None:
        heard[place] = tensor

    if outputs:
        hooks = [m.register_forward_hook(lambda _, x, y, i=i: note(i, y.clone())) for i, m in enumerate(modules)]
    else:
        hooks = [m.register_forward_pre_hook(lambda _, x, i=i: note(i, x[0])) for i, m in enumerate(modules)]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()


def logits_and_inputs(teacher: Teacher, images: Tensor, modules: Sequence[nn.Module]) -> tuple[Tensor, list[Tensor]]:
    """T's logits (B, K) of `images`, and what entered each of its `modules` on the way."""
    with listening(modules) as heard:
        return teacher(images, eager=True), heard


def stage_ends(teacher: Teacher, blank: Tensor) -> list[tuple[nn.Module, bool]]:
    """The last batch-norm layer that each stage of a teacher runs, or (with True) the stage itself where it runs none.

    `blank` is one input (1, C, H, W). Raises UserError for a network that names no stages.
    """
    named, ran = stages(teacher), list[nn.Module]()
    hooks = [m.register_forward_hook(lambda m, x, y: ran.append(m)) for m in {*named, *batch_norms(teacher)}]
    try:
        with torch.no_grad(), teacher.uncounted():
            teacher(blank.to(next(teacher.parameters()).device), eager=True)
    finally:
        for hook in hooks:
            hook.remove()
    found, last = list[tuple[nn.Module, bool]](), None
    for module in ran:
        if isinstance(module, nn.BatchNorm2d):
            last = module
        if module not in named:
            continue
        found.append((module, True) if last is None else (last, False))
        last = None
    return found


@torch.no_grad()
def logits_and_features(
    teacher: Teacher, batches: Iterable[Tensor], features: bool = False
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """T's logits (b, K, ...) of each batch of inputs as it sees them and, if asked for, its penultimate features (b, F).

    On the CPU, logits in fp32 at least, features in half precision.
    """
    device = next(teacher.parameters()).device
    modules = heads(teacher) if features else []
    for inputs in batches:
        answer, heard = logits_and_inputs(teacher, inputs.to(device), modules)
        yield full(answer).cpu(), vectors(heard).half().cpu() if features else None


def batch_norms(teacher: Teacher) -> list[nn.BatchNorm2d]:
    """The teacher's BatchNorm2d layers with running statistics, of all parts, in their order."""
    return [module for module in teacher.modules() if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None]


class BatchNorms:
    """The batch-norm `layers` of a teacher, the `running` moments that they keep of its training data, and an ear on them."""

    def __init__(self, teacher: Teacher):
        self.teacher, self.layers = teacher, batch_norms(teacher)
        self.running: list[Moments] = [(full(norm.running_mean), full(norm.running_var)) for norm in self.layers]  # type: ignore[arg-type]

    def ask(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """T's logits (B, K) of `images`, and what entered each layer on the way."""
        return logits_and_inputs(self.teacher, images, self.layers)


def moments(inputs: Sequence[Tensor]) -> list[Moments]:
    """Mean and biased variance per channel, over batch and places, of each input (B, C, H, W)."""
    return [_Moments.apply(x) for x in inputs]


class _Moments(torch.autograd.Function):
    """torch.var_mean with its gradient, by the kernels of batch normalisation: a pass each way, measured 5x faster on CPU.

    Of inputs in half precision too, whose statistics are in full: a cast before would cost four times as much.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        ones = x.new_ones(x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))
        _, mean, inverse = torch.native_batch_norm(x, ones, torch.zeros_like(ones), None, None, True, 0.0, 0.0)
        ctx.save_for_backward(x, mean)
        return mean, torch.where(inverse == 0, inverse, inverse.pow(-2))  # it is 0 where all values are the same

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        to_mean, to_var = gradients
        n = x.numel() / len(mean)
        slope = 2 * to_var / n  # d/dx of the mean is 1/n, of the variance 2 (x - mean) / n
        zeros = torch.zeros_like(mean)
        return torch.native_batch_norm(x, slope, to_mean / n - slope * mean, zeros, zeros + 1, False, 0.0, 0.0)[0]


def pooled(inputs: Sequence[Tensor]) -> Tensor:
    """One vector an image: the mean over places of every input (B, C, H, W), side by side, (B, sum of C)."""
    return torch.cat([full(x).mean((2, 3)) for x in inputs], 1)


def vectors(entered: Sequence[Tensor]) -> Tensor:
    """The penultimate feature (B, F) of what entered the `heads`, side by side: a mean over places where those are maps."""
    parts = [x.mean((2, 3)) if x.dim() == 4 else x for x in entered]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def heads(net: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    """The layers that give the logits, and whose inputs are the penultimate features: one, or one of each part of a teacher.

    The last linear layer; of a network without one the last convolution, which looks at one place. Raises UserError where it
    looks at more.
    """
    found: list[nn.Linear | nn.Conv2d] = []
    for part in net.parts if isinstance(net, Teacher) else [net]:
        linear = [module for module in part.modules() if isinstance(module, nn.Linear)]
        convolutions = [module for module in part.modules() if isinstance(module, nn.Conv2d)]
        if linear:
            found.append(linear[-1])
        elif convolutions and convolutions[-1].kernel_size == (1, 1):
            found.append(convolutions[-1])
        else:
            raise UserError(
                f"the network '{_name(net)}' ends in no linear layer or 1x1 convolution, so it has no penultimate features"
            )
    return found


def classifier(teacher: Teacher) -> Tensor:
    """The rows (K, F) of the teacher's `heads`, on the CPU: those of a part are 0 where the features are others'."""
    rows = []
    for part, head in zip(teacher.parts, heads(teacher), strict=True):
        weight = full(head.weight.detach()).flatten(1).cpu()
        kept = part.interface.keep if isinstance(part, Adapter) else ()
        rows.append(weight[list(kept)] if kept else weight)
    return torch.block_diag(*rows)


def stages(net: nn.Module) -> list[nn.Module]:
    """The modules whose outputs are a network's stage features, as the network's `taps` name them, from first to last.

    Raises UserError for a network that names none.
    """
    for module in net.modules():
        if names := getattr(module, "taps", ()):
            return [module.get_submodule(name) for name in names]
    raise UserError(f"the network '{_name(net)}' names no taps for its stages, which this method compares; take another one")


def _name(net: nn.Module) -> str:
    return net.name if isinstance(net, Teacher) else type(getattr(net, "net", net)).__name__
