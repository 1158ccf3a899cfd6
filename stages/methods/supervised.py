"""Cross-entropy on labelled in-domain images: how teachers are trained, and an upper bound for students."""

from stages.families.method import IN_DOMAIN, LABELS
from stages.families.supervised import Supervised


class Method(Supervised):
    """Sees the in-domain training split."""

    domain = "in_domain"
    sees = frozenset({IN_DOMAIN, LABELS})
