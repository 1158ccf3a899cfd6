"""A network that `torch.export` saved (.pt2): it has gradients, and no layers by name."""

import io
import math
import re
from typing import Any

import torch
from torch import Tensor, nn

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
        return module, _placeholder(program)

    @property
    def wants(self) -> tuple[int | None, ...]:
        """The shape that it was exported with; None for a dimension that was dynamic."""
        return tuple(side if isinstance(side, int) else None for side in self.opened[1].shape)

    @property
    def held(self) -> int:
        """Its parameters; constants do not count."""
        return sum(math.prod(p.shape) for p in self.opened[0].parameters())

    def forward(self, x: Tensor) -> Any:
        module, example = self.opened
        x = x.to(example.dtype).contiguous(memory_format=torch.channels_last)  # twice as fast on CPUs
        answers = [module(chunk) for chunk in self.chunks(x)]
        return answers[0] if len(answers) == 1 and len(x) == len(_first(answers[0])) else _joined(answers, len(x))


def _placeholder(program: Any) -> Any:
    name = program.graph_signature.user_inputs[0]
    return next(node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name == name)


def _first(answer: Any) -> Tensor:
    found: Tensor = next(iter(torch.utils._pytree.tree_leaves(answer)))
    return found


def _joined(answers: list[Any], n: int) -> Any:
    """The answers of batches as those of one, whatever they consist of, without what filled up the last batch."""
    return torch.utils._pytree.tree_map(lambda *parts: torch.cat(parts)[:n], *answers)


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """A program that is not read yet."""
    return Exported()
