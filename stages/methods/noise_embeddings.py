"""Knowledge distillation on noise in the space of word embeddings: the floor of what is made up."""

from torch import Tensor

from stages.methods.bases.pseudo_texts import PseudoTexts


class Method(PseudoTexts):
    """KL(T || S) on independent embeddings with the mean and deviation of the teacher's table, framed by [CLS] and [SEP]."""

    def samples(self, count: int) -> Tensor:
        """`count` inputs (count, L, d)."""
        return self.framed(self.noise(count), self.lengths(count))
