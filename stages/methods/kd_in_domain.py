"""Knowledge distillation on the teacher's own training images: an upper bound, not a solution."""

from stages.families.imitation import Imitation
from stages.families.method import IN_DOMAIN, Seen, seen


class Method(Imitation):
    """KL(T || S) on in-domain examples; labels are not used."""

    sees = frozenset({IN_DOMAIN})

    def build(self) -> None:
        """One shuffled stream of the in-domain training split."""
        examples = self.setting.data[IN_DOMAIN]
        logits = self.setting.kind.answers(self.teacher, examples)
        self.split = self.stream("in_domain", examples.having(logits=logits), self.schedule.real, self.schedule.augment)

    def next(self) -> Seen:
        """The next in-domain examples."""
        return seen(self.split.next())
