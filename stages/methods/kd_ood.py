"""Blind knowledge distillation on the OOD pool: what every OOD method must beat."""

from stages.methods.bases.imitation import Imitation
from stages.methods.bases.method import POOL, Seen, seen


class Method(Imitation):
    """KL(T || S) on pool images; where nothing is augmented, the teacher's logits were cached by `curate`."""

    sees = frozenset({POOL})
    answered = True  # the teacher's answers to the pool are all that it needs of it

    def build(self) -> None:
        """One shuffled stream of the pool."""
        self.pool = self.stream("pool", self.setting.data[POOL], self.schedule.real, self.schedule.of_pool)

    def next(self) -> Seen:
        """The next pool images."""
        return seen(self.pool.next())
