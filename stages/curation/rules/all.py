"""Keep every image of the pool."""

from typing import Literal

import torch
from pydantic import field_validator
from torch import Tensor

from stages.curation.rules import KeepRule, Scores


class Rule(KeepRule):
    """All examples, in their order."""

    keep: Literal["all"]

    @field_validator("count")
    @classmethod
    def _everything(cls, count: int | None) -> int | None:
        if count is not None:
            raise ValueError("all images are kept, so there is no count; take another rule (random, odsd, ...) for some of them")
        return count

    def choose(self, scores: Scores, count: int, classes: int) -> Tensor:
        """Choose the rows of all images."""
        return torch.arange(len(scores["entropy"]))
