"""A network that `torch.jit` saved (TorchScript): it has gradients, and no layers that are looked into."""

import io
import re
import warnings
from typing import Any

import torch
from torch import nn

from stages.networks.exported import Exported
from stages.support.errors import UserError

FORMS = {r"torchscript": "torchscript (given as `torchscript: FILE.pt`)"}
SIDE = 64  # pixels of the image with which gradients are tried; the file does not say what it takes


class TorchScript(Exported):
    """Answers as the program does in eval mode, to images of `channels`, in the precision of its weights."""

    made_by = "a program of TorchScript"

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels

    def open(self, file: io.BytesIO, device: torch.device) -> Any:
        """Its module, on a device, without gradients to its weights; raises UserError where it takes more than one input."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch would rather have it exported; its owner may not be able to
            module = torch.jit.load(file, map_location=device)
        if len(wanted := [one.name for one in module.forward.schema.arguments[1:] if not one.has_default_value()]) != 1:
            raise UserError(f"the TorchScript program takes {', '.join(wanted)}, not images alone; save it so")
        if hasattr(module, "training"):  # a frozen one stays as it was
            module.eval()
        for weight in module.parameters():
            weight.requires_grad_(False)
        kind = next((weight.dtype for weight in module.parameters() if weight.is_floating_point()), torch.float32)
        return module, torch.empty(2, self.channels, SIDE, SIDE, dtype=kind, device="meta"), None

    @property
    def wants(self) -> tuple[int | None, ...]:
        """Images of any size, as far as the file says."""
        return None, self.channels, None, None


def build(match: re.Match[str], classes: int, shape: tuple[int, ...]) -> nn.Module:
    """A program that is not read yet."""
    return TorchScript(shape[0])
