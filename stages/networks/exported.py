"""A network that `torch.export` saved (.pt2): it has gradients, and no layers by name."""

import functools
import io
import math
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from stages.networks.program import Program
from stages.support.errors import UserError

FORMS = {r"exported": "exported (given as `exported: FILE.pt2`)"}


class Exported(Program):
    """Answers as the program does. It stays in the mode in which it was exported, which must be eval."""

    made_by = "a program of torch.export"

    def open(self, file: io.BytesIO, device: torch.device) -> Any:
        """Its module, on a device, without gradients to its weights; raises UserError where it takes more than one input."""
        program = torch.export.load(file)
        if len(program.graph_signature.user_inputs) != 1:
            raise UserError(
                f"the exported program takes {len(program.graph_signature.user_inputs)} inputs, not images alone; export it so"
            )
        module = program.module().to(device).requires_grad_(False)
        name = program.graph_signature.user_inputs[0]
        given = next(node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name == name)
        return module, given, _most(program, given)

    @functools.cached_property
    def differentiable(self) -> bool:
        """Whether gradients flow through it, which is tried: not where it takes whole numbers, or was exported without."""
        _, given, _ = self.opened
        sides = [2 if place == 0 else side if isinstance(side, int) else 64 for place, side in enumerate(given.shape)]
        try:
            with torch.enable_grad():
                answer = self(torch.zeros(sides, device=self.anchor.device).requires_grad_())
        except Exception:  # of a size that it does not take: it is asked with the right one soon
            return bool(given.is_floating_point())
        return any(leaf.requires_grad for leaf in _pytree.tree_leaves(answer) if isinstance(leaf, Tensor))

    @property
    def wants(self) -> tuple[int | None, ...]:
        """The shape that it was exported with; None for a dimension that was dynamic."""
        return tuple(side if isinstance(side, int) else None for side in self.opened[1].shape)

    @property
    def most(self) -> int | None:
        """The largest batch of a dynamic one."""
        found: int | None = self.opened[2]
        return found

    @property
    def held(self) -> int:
        """Its parameters; constants do not count."""
        return sum(math.prod(p.shape) for p in self.opened[0].parameters())

    def forward(self, x: Tensor) -> Any:
        module, given, _ = self.opened
        kind = given.dtype
        shown = x.round().to(kind) if not kind.is_floating_point else x.to(kind)
        shown = shown.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else shown  # twice as fast on CPUs
        with torch.autocast(x.device.type, enabled=torch.is_autocast_enabled(x.device.type) and kind == torch.float32):
            answers = [module(chunk) for chunk in self.chunks(shown)]
        return _joined(answers, len(x), x.dtype)


def _most(program: Any, given: Tensor) -> int | None:
    """The largest batch that the program was exported for."""
    symbol = given.shape[0]
    if isinstance(symbol, int):
        return None
    uppers = [str(limit.upper) for name, limit in program.range_constraints.items() if str(name) == str(symbol)]
    return min((int(upper) for upper in uppers if upper.isdecimal() and int(upper) < 2**31), default=None)


def _joined(answers: list[Any], n: int, kind: torch.dtype) -> Any:
    """The answers of batches as those of one, whatever they consist of, without what filled up the last batch."""

    def join(*parts: Any) -> Any:
        if not isinstance(parts[0], Tensor) or parts[0].dim() == 0:
            return parts[0]
        parts = tuple(part.to(kind) if part.dtype == torch.float16 else part for part in parts)  # no autocast knows these
        return parts[0][:n] if len(parts) == 1 else torch.cat(parts)[:n]

    return _pytree.tree_map(join, *answers)


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """A program that is not read yet."""
    return Exported()
