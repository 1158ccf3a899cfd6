"""Contrastive representation distillation (Tian et al. 2020, arXiv:1910.10699), on OOD images and beside KD."""

import math
from typing import Annotated, Any, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from stages.engine.runtime import Runtime
from stages.losses.precision import exact, full
from stages.losses.representation import noise_contrast
from stages.methods.bases.feature_matching import FeatureMatching
from stages.methods.bases.method import POOL
from stages.methods.blocks.feature_watch import Observation
from stages.support.sections import Positive, Rate, Weight


class Method(FeatureMatching):
    """An image's embedding in S matches its remembered embedding in T, and no other image's; and the other way round."""

    class Params(FeatureMatching.Params):
        """`negatives` other images of the pool for each one."""

        beta: Weight = 0.8
        negatives: Positive = 4096
        embedding: Positive = 128
        contrast_tau: Rate = 0.07
        momentum: Annotated[float, Field(ge=0, lt=1)] = 0.5

        def smoke(self) -> Self:
            """The same parameters with few negatives."""
            return self.model_copy(update={"negatives": 16})

    params: Params

    def build(self) -> None:
        """Memories of both networks' embeddings of the whole pool."""
        super().build()
        setting, p = self.setting, self.params
        self.count = len(setting.data[POOL])
        self.banks = {side: Bank(self.count, p.embedding, p.momentum, setting.runtime) for side in ("student", "teacher")}
        self.memories |= {f"bank_{side}": bank for side, bank in self.banks.items()}

    def make_heads(self, student: Observation, teacher: Observation) -> nn.Module:
        """A linear map into the common space for each network."""
        widths = {"student": student.pooled.shape[1], "teacher": teacher.pooled.shape[1]}
        return nn.ModuleDict({side: nn.Linear(width, self.params.embedding) for side, width in widths.items()})

    def term(self, student: Observation, teacher: Observation, rows: Tensor) -> Tensor:
        """NCE of both sides; then the memories take in the batch."""
        heads = self.players["heads"].net
        assert isinstance(heads, nn.ModuleDict)
        features = {"student": student.pooled, "teacher": teacher.pooled}
        embedded = {side: F.normalize(full(heads[side](x)), dim=1) for side, x in features.items()}
        others = self._others(rows)
        terms = []
        for side, opposite in (("student", "teacher"), ("teacher", "student")):
            positive, negative = self.banks[opposite].scores(embedded[side], rows, others, self.params.contrast_tau)
            terms.append(noise_contrast(positive, negative, self.count))
        for side, bank in self.banks.items():
            bank.update(rows, embedded[side])
        return torch.stack(terms).sum()

    def _others(self, rows: Tensor) -> Tensor:
        """Rows (B, K) of negatives: uniform among all but the row itself."""
        drawn = torch.rand(len(rows), self.params.negatives).to(rows.device)
        place = (drawn * (self.count - 1)).long()
        return place + (place >= rows[:, None])


class Bank:
    """One embedding a pool image, unit vectors but for the start, moved towards what a network says of it now.

    Scores are exp(<anchor, memory> / tau) / Z; Z is set by the first batch, so that the mean score is 1 / n.
    """

    def __init__(self, count: int, width: int, momentum: float, runtime: Runtime):
        bound = 1 / math.sqrt(width / 3)
        self.rows = torch.empty(count, width).uniform_(-bound, bound).to(runtime.device)
        self.normaliser, self.begun = torch.zeros((), device=runtime.device), False
        self.momentum, self.runtime = momentum, runtime
        runtime.follow_first_([self.rows])

    @exact
    def scores(self, anchors: Tensor, rows: Tensor, others: Tensor, tau: float) -> tuple[Tensor, Tensor]:
        """Scores (B,) of each anchor (B, D) with its own row, and (B, K) with others'."""
        positive = ((anchors * self.rows[rows]).sum(1) / tau).exp()
        negative = (torch.einsum("bd,bkd->bk", anchors, self.rows[others]) / tau).exp()
        if not self.begun:
            both = torch.cat([positive.detach()[:, None], negative.detach()], 1)
            self.normaliser = both.mean() * len(self.rows)
            self.runtime.average_([self.normaliser])
            self.begun = True
        return positive / self.normaliser, negative / self.normaliser

    @torch.no_grad()
    def update(self, rows: Tensor, embedded: Tensor) -> None:
        """Move the memory of `rows` (B,), of all ranks, towards `embedded` (B, D)."""
        rows, embedded = self.runtime.gather(rows), self.runtime.gather(embedded.detach())
        self.rows[rows] = F.normalize(self.momentum * self.rows[rows] + (1 - self.momentum) * embedded, dim=1)

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs."""
        return {"rows": self.rows.cpu(), "normaliser": self.normaliser.cpu(), "begun": self.begun}

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.rows.copy_(state["rows"])
        self.normaliser, self.begun = state["normaliser"].to(self.rows.device), state["begun"]
