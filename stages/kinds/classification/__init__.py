"""Classification of images: logits (n, K), labels (n,)."""

from stages import kinds
from stages.kinds._images import ImageKind
from stages.kinds._one_label import OneLabel


class Kind(OneLabel, ImageKind):
    """One class an image."""

    has = frozenset({kinds.IMAGES, kinds.ONE_LABEL})
