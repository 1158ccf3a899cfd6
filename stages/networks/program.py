"""Networks that are one file, a program: kept as its bytes, so they are stored and loaded as other weights are."""

import io
from abc import abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stages.support.errors import UserError

PLACES = 2**18  # pixels that stay in a CPU's caches


class Program(nn.Module):
    """A network of which all that is stored is the file that it came in, the buffer `program`, uint8.

    Subclasses open it, when it is first asked or on another device, and answer at most `batch` inputs at a time where the
    program wants just so many.
    """

    made_by = "a program"
    program: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("program", torch.empty(0, dtype=torch.uint8))
        self.anchor = nn.Parameter(torch.empty(0))  # so that it lies on a device
        self._opened: tuple[torch.device, Any] | None = None

    def read(self, path: Path) -> None:
        """Take the bytes of a file; raises UserError where it is no such program."""
        self._opened = None
        try:
            self.program = torch.frombuffer(bytearray(self.content(path)), dtype=torch.uint8)
            assert self.opened is not None
        except UserError:
            raise
        except Exception as error:  # whatever a reader of files says of one that it cannot read
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"{path} is not {self.made_by} ({reason})") from None

    def content(self, path: Path) -> bytes:
        """All that the file holds, or names."""
        return path.read_bytes()

    @abstractmethod
    def open(self, file: io.BytesIO, device: torch.device) -> Any:
        """What answers, on a device."""

    @property
    def opened(self) -> Any:
        """What `open` made of the bytes, where this module lies."""
        device = self.anchor.device
        if self._opened is None or self._opened[0] != device:
            self._opened = device, self.open(io.BytesIO(self.program.cpu().numpy().tobytes()), device)
        return self._opened[1]

    @property
    @abstractmethod
    def wants(self) -> tuple[int | None, ...]:
        """The shape of its input, (B, C, H, W); None where any number will do."""

    @property
    def most(self) -> int | None:
        """The largest batch, where any number up to one will do."""
        return None

    @property
    @abstractmethod
    def held(self) -> int:
        """How many parameters it holds."""

    def chunks(self, x: Tensor) -> list[Tensor]:
        """The inputs in batches of the size that the program wants; the last one is filled up with its last input.

        Where it wants none, a CPU has a few large images at a time.
        """
        batch = self.wants[0]
        if batch is None:
            if self.most:
                return list(x.split(self.most))
            few = max(2, PLACES // x.shape[2:].numel())  # a program may refuse one alone
            return list(x.tensor_split(max(1, len(x) // few))) if x.device.type == "cpu" else [x]
        short = -len(x) % batch
        return list(torch.cat([x, x[-1:].expand(short, *x.shape[1:])]).split(batch)) if short else list(x.split(batch))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        self.program, self._opened = state_dict[f"{prefix}program"].clone(), None
        super()._load_from_state_dict(state_dict, prefix, *args)
