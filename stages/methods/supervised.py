"""Cross-entropy on labelled in-domain images: how teachers are trained, and an upper bound for students."""

from stages.methods import Supervised


class Method(Supervised):
    """Sees the in-domain training split."""

    domain = "in_domain"
    upper_bound = True
