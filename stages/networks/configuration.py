"""What lies beside a network's weights, and says how it is to be used."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.support.errors import UserError


@dataclass(frozen=True)
class Configuration:
    """Statistics by which images are normalised, their `size` (height, width), the classes' `names` in the order of the logits.

    `outputs` is how many there are, `model` what builds the network, `origin` where all this stands.
    """

    mean: list[float]
    std: list[float]
    size: tuple[int, int] | None = None
    names: tuple[str, ...] = ()
    outputs: int | None = None
    model: dict[str, Any] | None = None
    origin: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.mean, list) and isinstance(self.std, list)):
            raise TypeError("mean and std are lists, with a number for each channel")

    @property
    def line(self) -> str:
        """All of it, for people."""
        said = [f"mean {_short(self.mean)}, std {_short(self.std)}"] if self.mean else []
        said += [f"{self.size[0]} x {self.size[1]} pixels"] if self.size else []
        said += [f"{len(self.names)} classes ({', '.join(self.names[:3])}, ...)"] if self.names else []
        return f"{self.origin} says {', '.join(said)}" if said else ""


NOTHING = Configuration([], [])


def read_config(path: Path) -> dict[str, Any]:
    """A configuration in JSON; raises UserError where it is missing or damaged."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} is missing; weights of Hugging Face have it beside them: copy the whole folder") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is no JSON ({error}); copy the folder again") from None
    return found


def _short(values: list[float]) -> str:
    return f"[{', '.join(f'{value:.4g}' for value in values)}]"
