"""Derived values at the draws: parts of a comparison of emulated outputs."""

import numpy as np
import pytest

import surrogate

Z = np.linspace(0.0, 1.0, 12)
NAMES = ("a", "b")


def simulator(a, b):
    return {"curve": np.exp(a * Z) + b * Z**2, "line": a + b * Z}


class Compare:
    """Two data sets; the comparison is not known to be Gaussian."""

    vectorized = True

    def parts(self, outputs, parameters):
        first = ((outputs["curve"] - np.exp(0.5 * Z) - 0.3 * Z**2) / 0.1) ** 2
        second = ((outputs["line"] - 0.6 - 0.2 * Z) / 0.2) ** 2
        return {"chi2_curve": first.sum(1), "chi2_line": second.sum(1)}

    def __call__(self, outputs, parameters):
        return -0.5 * sum(self.parts(outputs, parameters).values())


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [(4,), (1, 2, 3)])
def test_parts_of_a_comparison_are_those_of_the_outputs(seeds):
    """At draws of one or three runs, mostly within 2.5 stated errors, and all far below the spread of the parts.

    The median was 3, and one error eight times too small, while they left out what the components do not describe.
    """
    in_errors = []
    for seed in seeds:
        target = surrogate.Observables(simulator, Compare())
        result = surrogate.infer(target, {"a": (-1, 2), "b": (-2, 2)}, seed=seed, n_samples=500, progress=False)
        assert result.converged
        assert result.derived_names == ("chi2_curve", "chi2_line")
        a, b = result.samples[:200].T[..., None]
        exact = np.stack(list(Compare().parts(simulator(a, b), {}).values()), 1)
        off = np.sqrt(np.mean((result.derived[:200] - exact) ** 2, axis=0))
        assert (result.derived_error < 0.05 * exact.std(0)).all(), (result.derived_error, exact.std(0))
        assert (off < 0.05 * exact.std(0)).all(), (off, exact.std(0))
        in_errors.extend(off / result.derived_error)
    assert np.median(in_errors) < 2.5
