"""Knowledge distillation on the teacher's own training images: an upper bound, not a solution."""

from stages.methods import Imitation, Seen
from stages.models import logits_of


class Method(Imitation):
    """KL(T || S) on in-domain images; labels are not used."""

    upper_bound = True

    def build(self) -> None:
        """One shuffled stream of the in-domain training split."""
        setting, schedule = self.setting, self.setting.schedule
        assert setting.in_domain is not None
        logits = logits_of(self.teacher, setting.in_domain.all_batches(256))
        self.split = self.stream("in_domain", setting.in_domain, schedule.images, schedule.augment, logits)

    def images(self) -> Seen:
        """The next in-domain images."""
        batch = self.split.next()
        return batch.images, batch.logits
