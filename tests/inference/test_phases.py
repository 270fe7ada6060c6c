"""The rule that moves a run from phase to phase, with the checks on views whose measurements are given."""

from dataclasses import dataclass, field, fields, replace
from types import SimpleNamespace

import numpy as np
import pytest

from surrogate.inference.checks import CHECKS, SIGNALS
from surrogate.inference.checks import batch_error as batch_errors
from surrogate.inference.checks import moved as moves
from surrogate.inference.findings import Claim, Finding
from surrogate.inference.phases import Phase, next_verdict
from surrogate.problem.accuracy import Thresholds

NOWHERE, SOMEWHERE = np.empty((0, 2)), np.zeros((1, 2))


@dataclass(frozen=True)
class Signals:
    """Measurements of one iteration."""

    spread: float = 0.001
    warm: float = 0.001
    log_evidence: float = 0.001
    batch: float = 0.01
    moved: float = 0.001
    ess: float = 3000.0
    thresholds: Thresholds = field(default_factory=Thresholds)

    def findings(self, monkeypatch):
        """What the checks of convergence make of them."""
        monkeypatch.setattr(batch_errors, "_largest", lambda _: self.batch)
        monkeypatch.setattr(moves, "_distance", lambda _: self.moved)
        view = SimpleNamespace(
            nowhere=NOWHERE,
            setup=SimpleNamespace(thresholds=self.thresholds),
            spread=SimpleNamespace(bulk=self.spread, warm=self.warm, log_evidence=self.log_evidence),
            sample=SimpleNamespace(ess=self.ess),
            inflation=1.0,
        )
        judged = ("effective size", "spread", "batch error", "moved")
        return [check.look(view) for check in CHECKS if check.phases == SIGNALS and check.name in judged]


@pytest.fixture
def verdict(monkeypatch):
    """The verdict on measurements."""

    def of(signals, phase=Phase.LEARN, search=()):
        return next_verdict(phase, signals.findings(monkeypatch), search)

    return of


OF_ALL_RUNS = [field.name for field in fields(Thresholds) if field.name != "probability"]  # of levels alone
GOOD = Signals()
ARMED = (Phase.ARMED, Phase.EXPLORE, Phase.DONE)


def test_two_quiet_iterations_in_a_row_are_convergence(verdict):
    assert verdict(GOOD).phase is Phase.ARMED
    for phase in ARMED:
        second = verdict(GOOD, phase)
        assert second.phase is Phase.DONE
        assert second.reason.startswith("converged")


@pytest.mark.parametrize("phase", [Phase.TEMPERED, Phase.LEARN])
@pytest.mark.parametrize("name", ["spread", "warm", "log_evidence", "batch"])
def test_each_signal_alone_can_refuse(verdict, name, phase):
    limit = getattr(Thresholds(), name)
    for value in (10 * limit, np.inf, np.nan):
        found = verdict(replace(GOOD, **{name: value}), phase)
        assert found.phase is Phase.LEARN
        assert "above" in found.reason


@pytest.mark.parametrize("name", OF_ALL_RUNS)
def test_each_signal_can_refuse_at_the_end(verdict, name):
    for phase in ARMED:
        assert not verdict(replace(GOOD, **{name: np.inf}), phase).converged


@pytest.mark.parametrize("name", ["spread", "warm", "log_evidence", "batch"])
def test_a_confirmation_has_the_limits_of_the_claim(verdict, name):
    """At twice the limits, as once allowed, a banana was claimed with a divergence of 0.055 (limit 0.05)."""
    limit = getattr(Thresholds(), name)
    for phase in (Phase.LEARN, *ARMED):
        assert verdict(replace(GOOD, **{name: 1.1 * limit}), phase).phase is Phase.LEARN
    for phase in ARMED:
        assert verdict(replace(GOOD, **{name: 0.9 * limit}), phase).phase is Phase.DONE


def test_a_claim_states_the_limit(verdict):
    reason = verdict(replace(GOOD, spread=0.02), Phase.ARMED).reason
    assert "differ from its mean by 0.02 (limit 0.05)" in reason


def test_few_draws_do_not_withdraw_a_claim(verdict):
    assert verdict(replace(GOOD, ess=60.0), Phase.ARMED).phase is Phase.DONE
    assert verdict(replace(GOOD, ess=60.0)).phase is Phase.LEARN


def test_few_draws_are_no_ground(verdict):
    found = verdict(replace(GOOD, ess=60.0, spread=1e3))
    assert not found.armed
    assert found.reason == "effective sample size 60 below 300"


def test_with_hardly_any_draws_nothing_is_judge(verdict):
    for phase in (Phase.LEARN, *ARMED):
        found = verdict(replace(GOOD, ess=10.0), phase)
        assert found.phase is Phase.LEARN
        assert found.reason == "effective sample size 10 below 300"


def test_the_reason_names_the_worst_signal(verdict):
    assert verdict(replace(GOOD, spread=0.1, batch=1e3)).reason == "batch error 1e+03 above 1"


@pytest.mark.parametrize("name", OF_ALL_RUNS)
def test_stricter_thresholds_never_stop_earlier(verdict, name, rng):
    """Over random signals of about the size of the limits."""
    strict = replace(Thresholds(), **{name: getattr(Thresholds(), name) / 3})
    for values in np.exp(rng.normal(-2.0, 2.0, (200, 5))):
        signals = Signals(*values, ess=1000.0)
        for phase in (Phase.LEARN, Phase.ARMED):
            ours, theirs = verdict(replace(signals, thresholds=strict), phase), verdict(signals, phase)
            assert ours.stop <= theirs.stop
            assert ours.armed <= theirs.armed


# What the search for the unknown makes of it


def test_points_of_the_search_keep_a_converged_run_exploring(verdict):
    search = [Finding(NOWHERE), Finding(SOMEWHERE)]
    assert verdict(GOOD, Phase.ARMED, search).phase is Phase.EXPLORE
    assert verdict(GOOD, Phase.ARMED, search[:1]).phase is Phase.DONE
    assert verdict(GOOD, Phase.LEARN, search).phase is Phase.ARMED


@pytest.mark.parametrize("phase", [Phase.LEARN, Phase.ARMED])
def test_a_search_that_waits_keeps_the_run_armed(verdict, phase):
    """But never arms one whose signals do not agree."""
    search = [Finding(SOMEWHERE, Claim.WAITS, "a corner rises")]
    found = verdict(GOOD, phase, search)
    assert (found.phase, found.reason) == (Phase.ARMED, "a corner rises")
    assert verdict(replace(GOOD, warm=0.9), phase, search).phase is Phase.LEARN


def test_the_flags_of_phases():
    """No phase is over but the last two, and what has converged is armed."""
    assert [phase for phase in Phase if phase.over] == [Phase.DONE, Phase.GAVE_UP]
    assert all(phase.armed for phase in Phase if phase.converged)
    assert not any(phase.armed for phase in (Phase.DESIGN, Phase.TEMPERED, Phase.LEARN, Phase.GAVE_UP))


def test_without_confirmation_a_run_ends_once_all_checks_agree_and_the_last_batch_moved_little(monkeypatch):
    found = next_verdict(Phase.LEARN, GOOD.findings(monkeypatch), confirm=False)
    assert found.phase is Phase.DONE
    assert found.reason.startswith("all checks agree")
    moving = next_verdict(Phase.LEARN, replace(GOOD, moved=10.0).findings(monkeypatch), confirm=False)
    assert moving.phase is Phase.LEARN
    assert moving.reason == "the last batch moved the posterior by 10 nats (limit 0.02)"
    wrong = replace(GOOD, batch=2.0)
    assert next_verdict(Phase.LEARN, wrong.findings(monkeypatch), confirm=False).phase is Phase.LEARN
