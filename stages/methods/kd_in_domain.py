"""Knowledge distillation on the teacher's own training images: an upper bound, not a solution."""

from stages.methods.bases.imitation import Imitation
from stages.methods.bases.method import IN_DOMAIN, Seen, seen


class Method(Imitation):
    """KL(T || S) on in-domain examples; labels are not used."""

    sees = frozenset({IN_DOMAIN})

    def build(self) -> None:
        """One shuffled stream of the in-domain training split."""
        examples, kind, augment = self.setting.data[IN_DOMAIN], self.setting.kind, self.schedule.augment
        if not kind.changed(examples.shape, augment):
            examples = examples.having(logits=kind.answers(self.teacher, examples))
        self.split = self.stream("in_domain", examples, self.schedule.real, augment)

    def next(self) -> Seen:
        """The next in-domain examples."""
        return seen(self.split.next())
