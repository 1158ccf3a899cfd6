"""Cross-entropy on labelled images of the student's domain: what a student learns there without a teacher."""

from stages.methods import Supervised


class Method(Supervised):
    """Sees the student domain's training split."""

    domain = "student_domain"
    shifted = True
