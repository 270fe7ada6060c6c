"""Best fits and profiles against closed forms, and what is said when they are not known."""

from functools import cache

import numpy as np
import pytest
from scipy import stats

import surrogate
from likelihoods import TARGETS
from surrogate.inference.profiles import Profile, _interval, _with_best

COVARIANCE = np.array([[1.0, 0.6], [0.6, 2.0]])
MEAN = np.array([0.5, -1.0])


class Counted:
    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, x):
        self.calls += 1
        return self.function(x)


def normal(x):
    residual = np.asarray(x) - MEAN
    return float(-0.5 * residual @ np.linalg.solve(COVARIANCE, residual))


@cache
def normal_run():
    function = Counted(normal)
    prior = {"a": (-8, 8), "b": stats.norm(2.0, 1.0)}
    return surrogate.infer(function, prior, seed=1, progress=False, n_samples=1000), function


@cache
def banana_run():
    target = TARGETS["banana"]()
    function = Counted(target.log_likelihood)
    return surrogate.infer(function, target.prior, seed=1, progress=False), function


def test_maximum_of_likelihood_and_of_posterior():
    run, function = normal_run()
    before = function.calls
    best = run.maximum("likelihood")
    assert function.calls - before == best.n_evaluations <= 10
    assert best.confirmed
    assert best.x == pytest.approx(MEAN, abs=1e-2)
    assert best.log_likelihood == pytest.approx(0.0, abs=1e-4)
    assert best.chi_squared == -2.0 * best.log_likelihood
    peak = run.maximum()
    information = np.linalg.inv(COVARIANCE)
    exact = np.linalg.solve(information + np.diag([0.0, 1.0]), information @ MEAN + [0.0, 2.0])
    assert peak.x == pytest.approx(exact, abs=1e-2)
    assert peak.log_posterior == pytest.approx(normal(exact) + stats.norm.logpdf(exact[1], 2, 1) - np.log(16), abs=1e-3)
    assert peak.point == dict(zip(("a", "b"), peak.x, strict=True))


@pytest.mark.slow
def test_maximum_beside_a_direct_optimum_of_a_curved_target():
    run, _ = banana_run()
    best = run.maximum("likelihood")
    assert best.n_evaluations <= 10
    assert best.log_likelihood == pytest.approx(0.0, abs=0.05)  # its maximum is 0 by construction
    assert best.confirmed


def test_profile_of_a_normal_is_a_parabola():
    run, _ = normal_run()
    found = run.profile("a")
    assert found.n_evaluations <= 40
    assert len(found.values) == 7
    assert found.confirmed.all()
    exact = -0.5 * (found.values - MEAN[0]) ** 2 / COVARIANCE[0, 0]
    assert found.heights == pytest.approx(exact, abs=0.02)
    for level, half in ((0.68, 0.99446), (0.95, 1.95996)):
        interval = found.interval(level)
        assert (interval.low, interval.high) == pytest.approx((MEAN[0] - half, MEAN[0] + half), abs=0.03)
        assert not interval.open_low
        assert not interval.open_high
    assert found.delta_chi_squared == pytest.approx(-2 * exact, abs=0.04)
    assert "confirmed" in str(found)


def test_profile_at_given_values_without_calls_is_not_confirmed():
    run, function = normal_run()
    before = function.calls
    found = run.profile("a", [0.0, 0.5, 1.0], max_evaluations=0)
    assert function.calls == before
    assert not found.confirmed.any()
    assert found.heights == pytest.approx([-0.125, 0.0, -0.125], abs=0.02)
    assert found.interval(0.95).open_low


def test_a_loaded_run_needs_the_likelihood_again(tmp_path):
    run = surrogate.infer(
        normal, {"a": (-8, 8), "b": (-8, 8)}, seed=1, progress=False, n_samples=500, output=tmp_path / "run"
    )
    loaded = surrogate.load_result(tmp_path / "run", n_samples=500)
    with pytest.raises(ValueError, match="pass log_likelihood="):
        loaded.maximum()
    assert loaded.maximum(max_evaluations=0).status.startswith("maximum of the surrogate, NOT CONFIRMED")
    again = loaded.maximum("likelihood", log_likelihood=normal)
    assert again.confirmed
    assert again.x == pytest.approx(run.maximum("likelihood").x, abs=1e-2)


def test_failures_are_counted_and_do_not_end_the_search():
    run, _ = normal_run()

    def broken(x):
        if abs(x[0] - 0.5) < 0.3:
            raise RuntimeError("no solution")
        return normal(x)

    best = run.maximum("likelihood", log_likelihood=broken, max_evaluations=5)
    assert best.n_failed >= 1
    assert np.isfinite(best.log_likelihood)
    assert "failed" in best.status


def test_misuse_is_refused():
    run, _ = normal_run()
    with pytest.raises(ValueError, match="'posterior' or 'likelihood'"):
        run.maximum("evidence")
    with pytest.raises(ValueError, match="one of the parameters a, b"):
        run.profile("c")
    with pytest.raises(ValueError, match="at least 3"):
        run.profile("a", 2)
    with pytest.raises(ValueError, match="tolerance"):
        run.maximum(tolerance=0)
    with pytest.raises(ValueError, match="max_evaluations"):
        run.maximum(max_evaluations=-1)


def test_intervals_are_open_where_the_profile_ends():
    values, heights = np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, -0.5, -2.0, -4.5])
    found = _interval(*_with_best(values, heights, 0.0, 0.0), 0.95)
    assert found.open_low
    assert not found.open_high
    assert found.high == pytest.approx(1.95996, abs=1e-3)  # the root of the depth is linear, and interpolated exactly
    assert str(found).startswith("95 %: <=0 to 1.9")


def test_a_profile_is_drawn(tmp_path):
    values = np.array([-1.0, 0.0, 1.0])
    points = _with_best(values, -0.5 * values**2, 0.0, 0.0)
    found = Profile(
        name="omega",
        of="likelihood",
        values=values,
        heights=-0.5 * values**2,
        x=values[:, None],
        remaining=np.zeros(3),
        tolerance=0.1,
        best=0.0,
        best_height=0.0,
        intervals=(_interval(*points, 0.5),),
        n_evaluations=3,
        names=("omega",),
        label=r"\Omega_{<script>",
    )
    found.plot().savefig(tmp_path / "profile.png")
    assert (tmp_path / "profile.png").stat().st_size > 1000
