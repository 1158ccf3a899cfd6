"""Common feature learning on the teachers' own training images, as its paper has it: an upper bound, not a solution."""

from stages.methods import cfl
from stages.methods.bases.method import IN_DOMAIN


class Method(cfl.Method):
    """The same on in-domain images; labels are not used."""

    sees = frozenset({IN_DOMAIN})
