"""The student as it starts, untrained: where layers are copied from the teacher, this is what copying alone gives."""

from stages.methods.bases.method import Method as Base


class Method(Base):
    """No step at all."""

    answered = True

    @property
    def iterations(self) -> int:
        """Take no iteration: the student stays as it starts."""
        return 0
