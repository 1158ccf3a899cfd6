"""CMI+: CMI, then labels of the student's domain, as AuG-KD (Tang et al., ICLR 2024, arXiv:2403.07030) compares it."""

from typing import Any, Self

from stages.families.finetuned import Finetuned
from stages.methods import cmi
from stages.settings.task import STUDENT_DOMAIN
from stages.support.sections import Positive


class Method(Finetuned):
    """CMI for `data_free` steps of S, then S learns from labels."""

    class Params(cmi.Method.Params):
        """Those of CMI, and the length of its part."""

        data_free: Positive = 80000

        def smoke(self) -> Self:
            """A few steps of either part."""
            return super().smoke().model_copy(update={"data_free": 20})

    params: Params
    first = cmi.Method
    of_kind = first.of_kind
    sees = first.sees | {STUDENT_DOMAIN}

    @classmethod
    def needs(cls, params: Any) -> frozenset[str]:
        """What CMI needs."""
        return cls.first.needs(params)
