"""Cross-entropy on labelled in-domain images: how teachers are trained, and an upper bound for students."""

from stages.methods.bases.supervised import InDomain


class Method(InDomain):
    """Sees the in-domain training split."""
