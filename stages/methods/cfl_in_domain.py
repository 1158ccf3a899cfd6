"""Common feature learning on the teachers' own training images, as its paper has it: an upper bound, not a solution."""

from stages.families.method import IN_DOMAIN
from stages.methods import cfl


class Method(cfl.Method):
    """The same on in-domain images; labels are not used."""

    sees = frozenset({IN_DOMAIN})
