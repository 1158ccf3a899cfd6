"""KD on a class-balanced transfer set (Nayak et al., WACV 2021, arXiv:2011.09113), from the OOD pool."""

import math

import torch
from torch import Tensor

from stages.datasets.examples import PREDICTED
from stages.methods.bases.imitation import Imitation
from stages.methods.bases.method import POOL, Seen, seen


class Method(Imitation):
    """KL(T || S) on as many pool images of each class that T sees, the rarer ones repeated.

    Classes without an image stay empty, and the others share the set, so that it is as large as the pool.
    """

    sees = frozenset({POOL})
    answered = True

    def build(self) -> None:
        """One shuffled stream of the balanced set, as large as the pool."""
        pool = self.setting.data[POOL]
        rows = even_rows(pool.columns[PREDICTED], self.setting.classes)
        self.pool = self.stream("pool", pool.subset(rows), self.schedule.real, self.schedule.of_pool)

    def next(self) -> Seen:
        """The next images of the balanced set."""
        return seen(self.pool.next())


def even_rows(predicted: Tensor, classes: int) -> Tensor:
    """About n random rows of `predicted` (n,), as many of each class that has any: all of a class again where it has too few."""
    members = [(predicted == k).nonzero().flatten() for k in range(classes)]
    members = [rows for rows in members if len(rows)]
    if empty := classes - len(members):
        print(f"balanced: the teacher takes no image of the pool for {empty} of {classes} classes, which stay empty")
    each = math.ceil(len(predicted) / len(members))
    key = torch.rand(len(predicted), generator=torch.Generator().manual_seed(0))
    ordered = [rows[key[rows].argsort(descending=True, stable=True)] for rows in members]
    return torch.cat([rows.repeat(math.ceil(each / len(rows)))[:each] for rows in ordered])
