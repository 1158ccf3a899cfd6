"""KD on a class-balanced transfer set (Nayak et al., WACV 2021, arXiv:2011.09113), from the OOD pool."""

import math

import torch
from torch import Tensor

from stages.methods import Imitation, Seen


class Method(Imitation):
    """KL(T || S) on as many pool images of each class that T sees, the rarer ones repeated."""

    def build(self) -> None:
        """One shuffled stream of the balanced set, as large as the pool."""
        setting, schedule = self.setting, self.setting.schedule
        assert setting.pool is not None
        assert setting.pool_logits is not None
        rows = even_rows(setting.pool_logits.argmax(1), setting.classes)
        logits = setting.pool_logits[rows]
        self.pool = self.stream("pool", setting.pool.subset(rows), schedule.images, schedule.augment, logits)

    def images(self) -> Seen:
        """The next images of the balanced set."""
        batch = self.pool.next()
        return batch.images, batch.logits


def even_rows(predicted: Tensor, classes: int) -> Tensor:
    """About n rows of `predicted` (n,), as many of each class that has any: all of a class again where it has too few."""
    members = [(predicted == k).nonzero().flatten() for k in range(classes)]
    members = [rows for rows in members if len(rows)]
    if empty := classes - len(members):
        print(f"balanced: the teacher takes no image of the pool for {empty} of {classes} classes, which stay empty")
    each = math.ceil(len(predicted) / len(members))
    generator = torch.Generator().manual_seed(0)
    drawn = [
        [rows[torch.randperm(len(rows), generator=generator)] for _ in range(math.ceil(each / len(rows)))] for rows in members
    ]
    return torch.cat([torch.cat(rounds)[:each] for rounds in drawn])
