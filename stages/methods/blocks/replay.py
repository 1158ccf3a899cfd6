"""What T said of images, kept: S draws from the newest."""

import torch
from torch import Tensor

from stages.datasets.images import to_unit
from stages.methods.bases.method import Setting
from stages.methods.blocks.composer import evenly
from stages.methods.blocks.ring_buffer import Ring

Rows = dict[str, Tensor]


class Replay:
    """The newest `capacity` images, uint8, with T's logits.

    Its `ring` is a memory of the run. Raises UserError that names `key` where it does not fit.
    """

    def __init__(self, capacity: int, setting: Setting, key: str):
        self.setting = setting
        form = {"images": (setting.form.shape, torch.uint8), "logits": (setting.kind.answer, torch.get_default_dtype())}
        self.ring = Ring(capacity, form, setting.runtime, key)

    def __len__(self) -> int:
        return len(self.ring)

    def add(self, pixels: Tensor) -> None:
        """T looks at this rank's new images (n, C, H, W), uint8."""
        self.ring.append(images=pixels, logits=self.setting.teacher.logits(to_unit(pixels)))

    def draw(self, count: int, balance: float = 0.0) -> Rows:
        """`count` kept rows for this rank, with replacement.

        Images of one class are drawn in proportion to (their number)^(1 - balance).
        """
        kept = {name: rows[: len(self)] for name, rows in self.ring.rows.items()}
        even = torch.ones(len(self), device=kept["logits"].device)
        chances = evenly(kept["logits"].argmax(1), self.setting.classes, balance) if balance else even
        rows = torch.multinomial(chances, count, replacement=True)
        return {name: column[rows] for name, column in kept.items()}
