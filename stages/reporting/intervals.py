"""Confidence intervals of means over few seeds."""

import math
from collections.abc import Sequence

from scipy import stats


def half_interval(values: Sequence[float]) -> float:
    """Half the width of the two-sided 95 % t-interval of the mean; NaN for fewer than two values."""
    n = len(values)
    if n < 2:
        return math.nan
    return float(stats.t.ppf(0.975, n - 1) * stats.sem(values))
