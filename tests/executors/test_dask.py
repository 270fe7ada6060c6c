"""The laws of executors for a real cluster of dask, on this machine."""

import numpy as np
import pytest

from surrogate.executors import evaluate_batch, make_executor
from surrogate.executors.calls import Limits, guarded
from surrogate.executors.choice import workers_of
from surrogate.problem.target import Posterior
from tests.executors import functions_for_workers as functions
from tests.executors.test_evaluate import POSTERIOR, X, essence

distributed = pytest.importorskip("distributed", reason="distributed is not installed")
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def executor():
    import dask

    with (
        dask.config.set({"distributed.worker.daemon": False, "distributed.comm.timeouts.connect": "300s"}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
        make_executor(client.get_executor()) as executor,
    ):
        yield executor


def test_its_workers_are_counted(executor):
    assert workers_of(executor) == 2


def test_the_same_answers_in_order_recorded_once(executor):
    recorded = {}
    evaluations = evaluate_batch(POSTERIOR, X, executor, record=recorded.__setitem__)
    serial = evaluate_batch(POSTERIOR, X, make_executor(None))
    assert [essence(e) for e in evaluations] == [essence(e) for e in serial]
    assert {index: essence(e) for index, e in recorded.items()} == dict(enumerate(map(essence, serial)))


def test_what_is_done_is_not_repeated(executor):
    done = dict(enumerate(evaluate_batch(POSTERIOR, X, make_executor(None))))
    del done[3]
    recorded = {}
    evaluate_batch(POSTERIOR, X, executor, done=done, record=recorded.__setitem__)
    assert list(recorded) == [3]


@pytest.mark.slow
def test_isolated_calls_that_die_or_hang(executor):
    posterior = Posterior(functions.deadly, [(0, 1)])
    with guarded(posterior.evaluate, Limits(isolate=True)) as call:
        evaluations = evaluate_batch(posterior, np.array([[0.25], [0.5], [0.6], [0.75]]), executor, call=call)
    assert [e.status for e in evaluations] == ["ok", "failed", "failed", "ok"]
    assert "SIGSEGV" in evaluations[1].reason
    endless = Posterior(functions.endless, [(0, 1)])
    with guarded(endless.evaluate, Limits(seconds=0.5)) as call:
        (evaluation,) = evaluate_batch(endless, np.array([[0.5]]), executor, call=call)
    assert "time-out" in evaluation.reason
