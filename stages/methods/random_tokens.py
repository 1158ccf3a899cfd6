"""Knowledge distillation on sequences of random words: as good as guessed embeddings, so it stands beside every claim."""

import torch
from torch import Tensor

from stages.methods.bases.pseudo_texts import PseudoTexts


class Method(PseudoTexts):
    """KL(T || S) on uniform draws of the vocabulary's pieces of words, framed by [CLS] and [SEP]."""

    def samples(self, count: int) -> Tensor:
        """`count` inputs (count, L, d): the embeddings of the words."""
        drawn = torch.randint(len(self.words), (count, self.setting.form.length))
        return self.framed(self.words[drawn.to(self.words.device)], self.lengths(count))
