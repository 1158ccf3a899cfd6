"""Blind knowledge distillation on the OOD pool: what every OOD method must beat."""

from stages.methods import Imitation, Seen


class Method(Imitation):
    """KL(T || S) on pool images; where nothing is augmented, the teacher's logits were cached by `curate`."""

    def build(self) -> None:
        """One shuffled stream of the pool."""
        setting, schedule = self.setting, self.setting.schedule
        assert setting.pool is not None
        self.pool = self.stream("pool", setting.pool, schedule.images, schedule.augment, setting.pool_logits)

    def images(self) -> Seen:
        """The next pool images."""
        batch = self.pool.next()
        return batch.images, batch.logits
