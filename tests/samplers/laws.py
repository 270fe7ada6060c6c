"""What every estimate of an integral promises, for the tests of all kinds of them."""

import numpy as np
from scipy import stats


def assert_errors_are_honest(found):
    """Null: chi-squared of 20 repetitions about 0; p > 1e-6 on the upper side, and not too large by a factor of two."""
    z = np.array([each.log_integral / each.log_integral_error for each in found])
    assert stats.chi2(len(z)).sf((z**2).sum()) > 1e-6
    assert (z**2).mean() > 0.25
