"""Cross-entropy on labelled images of the student's domain: what a student learns there without a teacher."""

from stages.methods.bases.supervised import Supervised
from stages.settings.task import STUDENT_DOMAIN


class Method(Supervised):
    """Sees the student domain's training split."""

    domain = "student_domain"
    sees = frozenset({STUDENT_DOMAIN})
