"""Somebody else's network between images and logits as they are here: size, order, range and normalisation; what it answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stages.networks.normalize import Normalized, per_channel
from stages.support.errors import UserError

LEAST = 1e-12  # a probability below it counts as this much
USUAL = ("logits", "out", "output")  # what networks call their answer among several


@dataclass(frozen=True)
class Interface:
    """How a network wants images and answers.

    It sees them at `resize` (height, width), channels in `order` ('rgb', 'bgr'), values from 0 to `range`, then less `mean` and
    over `std` where these are given. `output` is which of several answers counts; it gives probabilities or logits of `outputs`
    classes, of which `keep` are the task's, in their order.
    """

    resize: tuple[int, int] | None = None
    order: str = "rgb"
    range: int = 1
    mean: list[float] | None = None
    std: list[float] | None = None
    output: str | int | None = None
    probabilities: bool = False
    keep: tuple[int, ...] = ()
    outputs: int | None = None

    @classmethod
    def restored(cls, facts: dict[str, Any]) -> "Interface":
        """From what `dataclasses.asdict` made of one, by way of JSON."""
        lists = {key: tuple(facts[key]) if facts[key] is not None else None for key in ("resize", "keep")}
        return cls(**{**facts, **lists})


class Adapter(nn.Module):
    """Images (B, C, H, W) in [0, 1], or texts, -> logits (B, K), or (B, K, H, W) of every pixel, by a network with an interface.

    Differentiable where the network is. Raises UserError for an answer that is no tensor of these forms.
    """

    wraps = True

    def __init__(self, net: nn.Module, interface: Interface):
        super().__init__()
        self.net, self.interface = net, interface
        mean, std = interface.mean or [0.0], interface.std or [1.0]
        self.register_buffer("mean", per_channel(mean), persistent=False)
        self.register_buffer("std", per_channel(std), persistent=False)
        self.register_buffer("keep", torch.tensor(interface.keep, dtype=torch.long), persistent=False)

    mean: Tensor
    std: Tensor
    keep: Tensor

    def forward(self, x: Tensor) -> Tensor:
        form = self.interface
        answer = answered(self.net(self.shown(x) if x.dim() == 4 else x), form.output)
        if form.keep:
            if max(form.keep) >= answer.shape[1]:
                raise UserError(f"the teacher has {answer.shape[1]} logits, and `classes` names number {max(form.keep)} (from 0)")
            answer = answer.index_select(1, self.keep)
        if form.probabilities:
            answer = answer.clamp(min=LEAST).log()
        if answer.dim() == 4 and x.dim() == 4 and answer.shape[2:] != x.shape[2:]:
            answer = F.interpolate(answer, x.shape[2:], mode="bilinear", align_corners=False)
        return answer

    def shown(self, x: Tensor) -> Tensor:
        """Images as the network wants them."""
        form = self.interface
        if form.resize and x.shape[2:] != form.resize:
            x = F.interpolate(x, form.resize, mode="bilinear", antialias=True, align_corners=False)
        if form.order == "bgr":
            x = x.flip(1)
        if form.range != 1:
            x = x * form.range
        return (x - self.mean) / self.std if form.mean else x


def inside(net: nn.Module) -> nn.Module:
    """The network behind an interface or a normaliser; itself where it has neither."""
    found: nn.Module = net.get_submodule("net") if isinstance(net, Adapter | Normalized) else net
    return found


def answered(answer: Any, output: str | int | None = None) -> Tensor:
    """The logits in what a network gave: itself, or the item called `output` of a dict, a tuple or an object with fields.

    Raises UserError where that is no tensor (B, K) or (B, K, H, W), or where it is not said which of several counts.
    """
    items: Mapping[Any, Any] = {}
    if isinstance(answer, Mapping):
        items = answer
    elif isinstance(answer, Sequence):
        items = dict(enumerate(answer))
    elif not isinstance(answer, Tensor) and hasattr(answer, "__dict__"):
        items = vars(answer)
    if items:
        usual = [name for name in USUAL if isinstance(items.get(name), Tensor)]
        tensors = [name for name, value in items.items() if isinstance(value, Tensor)]
        name = output if output is not None else next(iter(usual), tensors[0] if len(tensors) == 1 else None)
        if name is None or name not in items:
            said = f"has no '{output}'" if output is not None else "gives several"
            raise UserError(f"the teacher {said}; its outputs are {', '.join(map(str, items))}: say which are logits by `output`")
        answer = items[name]
    if not isinstance(answer, Tensor) or answer.dim() not in (2, 4):
        what = f"a tensor of {answer.dim()} axes" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
        raise UserError(f"the teacher answers with {what}, not with logits (B, classes) or (B, classes, H, W); say `output`")
    return answer
