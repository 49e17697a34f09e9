"""Where one more draw would fall: what a single published run can be compared with."""

from collections.abc import Sequence

import numpy as np
from scipy import stats


def one_more(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """The interval in which one more draw falls, of those that gave `values`: mean ± t·sd·√(1 + 1/n).

    t is Student's quantile with n - 1 degrees of freedom: values are taken to be normal, and so is the further one.
    None for fewer than two.
    """
    n = len(values)
    if n < 2:
        return None
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1) * np.std(values, ddof=1) * np.sqrt(1 + 1 / n))
    middle = float(np.mean(values))
    return middle - half, middle + half
