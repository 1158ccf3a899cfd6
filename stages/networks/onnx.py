"""A network in ONNX's format, run by onnxruntime, which is in the group `onnx`: it can be asked, and has no gradients."""

import io
import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.networks.program import Program
from stages.support.errors import UserError
from stages.support.extras import optional

KINDS = {"tensor(float16)": torch.float16, "tensor(double)": torch.float64, "tensor(uint8)": torch.uint8}
FORMS = {r"onnx": "onnx (given as `onnx: FILE.onnx`)"}


class Onnx(Program):
    """Answers on the CPU, whatever the device."""

    made_by = "a network of ONNX"
    differentiable = False

    def content(self, path: Path) -> bytes:
        """The file with the weights that it names in others beside it."""
        found: bytes = optional("onnx", "onnx").load(path).SerializeToString()
        return found

    def open(self, file: io.BytesIO, device: torch.device) -> Any:
        """A session with as many threads as torch has; raises UserError where it takes more than one input."""
        runtime = optional("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        session = runtime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
        if len(session.get_inputs()) != 1:
            names = ", ".join(one.name for one in session.get_inputs())
            raise UserError(f"the ONNX network takes {names}, not images alone; export it so")
        return session

    @property
    def wants(self) -> tuple[int | None, ...]:
        """The shape of its input; None for a dimension with a name."""
        return tuple(side if isinstance(side, int) and side > 0 else None for side in self.opened.get_inputs()[0].shape)

    @property
    def held(self) -> int:
        """The numbers in its initialisers."""
        graph = optional("onnx", "onnx").load_from_string(self.program.cpu().numpy().tobytes()).graph
        return sum(math.prod(one.dims) for one in graph.initializer if len(one.dims))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Any:
        session = self.opened
        given, names = session.get_inputs()[0], [one.name for one in session.get_outputs()]
        kind = KINDS.get(given.type, torch.float32)
        shown = x.detach().cpu().float()
        shown = (shown if kind.is_floating_point else shown.round()).to(kind)
        try:
            parts = [session.run(None, {given.name: chunk.numpy()}) for chunk in self.chunks(shown)]
        except Exception as error:  # of a kind that onnxruntime has for itself
            raise UserError(
                f"the ONNX network does not take images {tuple(x.shape[1:])} ({str(error).splitlines()[0]})"
            ) from None
        joined = [torch.cat([torch.from_numpy(part[i]) for part in parts])[: len(x)].to(x.device) for i in range(len(names))]
        answers = [answer.float() if answer.is_floating_point() else answer for answer in joined]
        return answers[0] if len(answers) == 1 else dict(zip(names, answers, strict=True))


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """A network that is not read yet."""
    return Onnx()
