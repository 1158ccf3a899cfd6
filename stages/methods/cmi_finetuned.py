"""CMI+: CMI, then labels of the student's domain, as AuG-KD (Tang et al., ICLR 2024, arXiv:2403.07030) compares it."""

from stages.methods import cmi
from stages.methods.bases.finetuned import DataFree, Finetuned


class Method(Finetuned):
    """CMI for `data_free` steps of S, then S learns from labels."""

    class Params(DataFree, cmi.Method.Params):
        """Those of CMI, and the length of its part."""

    params: Params
    first = cmi.Method
