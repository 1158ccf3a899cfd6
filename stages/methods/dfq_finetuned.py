"""DFQ+: DFQ, then labels of the student's domain, as AuG-KD (Tang et al., ICLR 2024, arXiv:2403.07030) compares it."""

from stages.methods import dfq
from stages.methods.bases.finetuned import DataFree, Finetuned


class Method(Finetuned):
    """DFQ for `data_free` steps of S, then S learns from labels."""

    class Params(DataFree, dfq.Method.Params):
        """Those of DFQ, and the length of its part."""

    params: Params
    first = dfq.Method
