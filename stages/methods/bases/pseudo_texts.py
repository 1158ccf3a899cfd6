"""Made-up inputs of an encoder of texts, in the space of its word embeddings."""

from typing import Any

import torch
from torch import Tensor

from stages.engine.teacher import EMBEDDINGS
from stages.kinds import TEXTS
from stages.methods.bases.imitation import Imitation
from stages.methods.bases.method import MethodParams, Seen
from stages.networks.adapter import inside
from stages.support.errors import UserError
from stages.support.sections import Rate

SHORTEST = 4  # a made-up text has a quarter of the full length at least
FRAME = 3  # [CLS], [SEP] and something between them


class PseudoTexts(Imitation):
    """KL(T || S) on inputs that no text is behind; `words` of the teacher's table are all that is known of texts.

    `mean` and `std` (d,) are those of the embeddings of all pieces of words, special and unused tokens left out. Subclasses say
    what stands between [CLS] and [SEP]; lengths are uniform between a quarter of the full one and all of it.
    """

    class Params(Imitation.Params):
        """The paper compares at a temperature of 1."""

        tau: Rate = 1.0

    of_kind = frozenset({TEXTS})

    @classmethod
    def needs(cls, params: MethodParams) -> frozenset[str]:
        """The table of word embeddings."""
        return frozenset({EMBEDDINGS})

    def build(self) -> None:
        """What the table says. Raises UserError for a student with other embeddings."""
        student: Any = self.setting.student
        encoder: Any = inside(self.teacher.parts[0])
        self.encoder, table = encoder, encoder.table
        if student.table.shape[1] != table.shape[1]:
            raise UserError(
                f"word embeddings are {table.shape[1]} wide in the teacher and {student.table.shape[1]} in the student; a "
                "student of made-up embeddings needs the teacher's width"
            )
        if not torch.equal(student.table.to(table.device), table):
            raise UserError(
                "the student's word embeddings are not the teacher's, in whose space inputs are made up; copy them "
                "(distill.student.teacher_layers: spread, first, or the module that holds them)"
            )
        self.words: Tensor = table[encoder.pieces]
        self.mean, self.std = self.words.mean(0), self.words.std(0, correction=0)
        self.begin, self.end, self.masked = (table[getattr(encoder, word)] for word in ("cls", "sep", "mask"))
        self.batch = self.setting.runtime.share(self.schedule.real, "the student's batch")

    def next(self) -> Seen:
        """Fresh ones, as `samples` makes them."""
        self.cost.images += self.batch
        return self.samples(self.batch), None

    def samples(self, count: int) -> Tensor:
        """`count` inputs (count, L, d), framed."""
        raise NotImplementedError

    def lengths(self, count: int) -> Tensor:
        """Tokens of each of `count` texts, [CLS] and [SEP] included, (count,)."""
        full = self.setting.form.length
        return torch.randint(max(FRAME, full // SHORTEST), full + 1, (count,)).to(self.setting.runtime.device)

    def noise(self, count: int) -> Tensor:
        """Embeddings (count, L, d) as wide as the table: mean + std N(0, 1)."""
        shape = (count, self.setting.form.length, len(self.mean))
        return self.mean + self.std * torch.randn(shape, device=self.setting.runtime.device)

    def framed(self, inner: Tensor, lengths: Tensor) -> Tensor:
        """`inner` (B, L, d) with the true [CLS] first, [SEP] last and, behind the end, padding; these get no gradient."""
        place = torch.arange(inner.shape[1], device=inner.device)[None, :, None]
        last = (lengths - 1)[:, None, None]
        inner = torch.where(place == 0, self.begin, torch.where(place == last, self.end, inner))
        return torch.where(place > last, torch.zeros_like(inner), inner)
