"""The front door: rules against slow ones, and what holds for all of them."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from surrogate.linalg.operators import DenseOperator
from surrogate.selection.batch import METHODS, select_batch
from surrogate.selection.distances import kernel_distances
from surrogate.selection.features import DenseFeatures, KernelFeatures, covariance_features
from surrogate.selection.gradients import GradientFeatures
from surrogate.selection.selection import kmeans_pp, max_det
from surrogate.selection.tangent import LaplaceKernel

MODES = [name for name, (_, mode, _) in METHODS.items() if not mode]
MODES += [f"{name}-{mode}" for name, (_, default, _) in METHODS.items() if default for mode in ("p", "tp")]
BY_KERNEL = [m for m in MODES if not m.startswith(("bait", "fw"))]


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def select(pool, n, *, train=None, **options):
    options.setdefault("generator", generator())
    train = None if train is None else DenseFeatures(train)
    return select_batch(DenseFeatures(pool), n, train=train, **options)


@pytest.fixture(params=MODES)
def method(request):
    return request.param


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_are_distinct_and_repeatable(method, dtype):
    pool, train = normal(200, 8, dtype=dtype), normal(30, 8, seed=1, dtype=dtype)
    result = select(pool, 20, train=train, method=method)
    assert result.complete
    assert result.indices.dtype == torch.int64
    assert len(set(result.indices.tolist())) == 20
    assert torch.equal(result.indices, select(pool, 20, train=train, method=method).indices)


def test_greedy_rules_begin_with_the_smaller_batch(method):
    if method.startswith("bait-fb"):
        pytest.skip("the backward steps depend on the size")
    pool, train = normal(100, 8), normal(20, 8, seed=1)
    large, small = (select(pool, n, train=train, method=method, generator=generator(3)) for n in (12, 5))
    assert large.indices[:5].tolist() == small.indices.tolist()


def test_points_that_may_not_be_chosen_count_as_absent(method):
    pool, train = normal(100, 8), normal(20, 8, seed=1)
    feasible = normal(100, seed=2) > 0
    result = select(pool, 10, train=train, method=method, feasible=feasible)
    alone = select(pool[feasible], 10, train=train, method=method)
    assert result.indices.tolist() == torch.nonzero(feasible).flatten()[alone.indices].tolist()


def test_the_whole_pool_can_be_chosen(method):
    result = select(normal(12, 20), 12, train=normal(4, 20, seed=1), method=method)
    assert sorted(result.indices.tolist()) == list(range(12))


DISTINCT = ["maxdist-p", "maxdist-tp", "kmeanspp-p", "kmeanspp-tp", "lcmd-p", "lcmd-tp"]


@pytest.mark.parametrize("method", DISTINCT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_copies_are_not_chosen_and_the_status_says_so(method, dtype):
    """Eight distinct points, far from the origin, each five times; two of them are labelled."""
    some = normal(8, 6, dtype=dtype) + 30.0
    result = select(some.repeat(5, 1), 20, train=some[:2], method=method)
    expected = 6 if method.endswith("tp") else 8
    assert result.status == f"{expected} of 20 points chosen: no distinct points are left"
    assert not result.complete
    assert len({i % 8 for i in result.indices.tolist()}) == expected


def test_the_rank_runs_out_in_max_det():
    x = torch.cat([normal(30, 4), torch.zeros(30, 3, dtype=torch.float64)], 1)
    result = select(x, 10, method="maxdet-p", noise=0.0)
    assert result.status == "4 of 10 points chosen: the kernel has no variance left: its rank is exhausted"
    assert len(result.indices) == 4


@pytest.mark.parametrize("method", ["bait-f-p", "bait-fb-p", "fw-p"])
def test_zero_features_are_not_chosen(method):
    x = torch.cat([normal(5, 4), torch.zeros(20, 4, dtype=torch.float64)])
    result = select(x, 10, method=method)
    assert len(result.indices) == 5
    assert result.status.startswith("5 of 10 points chosen")


def test_max_det_with_features_and_with_their_kernel():
    x = normal(60, 20)
    dense = select(x, 15, method="maxdet-p", noise=0.1).indices
    kernel = select_batch(covariance_features(x @ x.T), 15, method="maxdet", transforms=(), noise=0.1).indices
    assert torch.equal(dense, kernel)
    assert torch.equal(dense, max_det(DenseOperator(x @ x.T + 0.01 * torch.eye(60, dtype=torch.float64)), 15))


def test_max_det_from_labelled_points_continues_their_determinant():
    x, known = normal(12, 5), normal(6, 5, seed=1)
    chosen = select(x, 3, train=known, method="maxdet-tp", noise=0.3).indices.tolist()
    for i in range(3):
        options = []
        for j in range(12):
            rows = torch.cat([known, x[[*chosen[:i], j]]])
            options.append(float(torch.logdet(rows @ rows.T + 0.09 * torch.eye(len(rows), dtype=torch.float64))))
        best = max((j for j in range(12) if j not in chosen[:i]), key=lambda j: options[j])
        assert best == chosen[i]


@pytest.mark.parametrize("method", ["bait-f-p", "bait-f-tp"])
def test_bait_takes_the_point_that_leaves_least_variance(method):
    x, known, noise = normal(25, 4), normal(6, 4, seed=1), 0.4
    chosen = select(x, 4, train=known, method=method, noise=noise).indices.tolist()
    every, start = torch.cat([x, known]), known if method.endswith("tp") else known[:0]

    def left(rows):
        seen = torch.cat([start, x[rows]])
        m = torch.linalg.inv(seen.T @ seen / noise**2 + torch.eye(4, dtype=torch.float64))
        return float((every @ m * every).sum())

    for i in range(4):
        assert min((j for j in range(25) if j not in chosen[:i]), key=lambda j: left([*chosen[:i], j])) == chosen[i]


def test_backward_steps_drop_what_costs_least():
    x, noise = normal(25, 4), 0.4
    forward = select(x, 6, method="bait-f-p", noise=noise).indices.tolist()

    def left(rows):
        m = torch.linalg.inv(x[rows].T @ x[rows] / noise**2 + torch.eye(4, dtype=torch.float64))
        return float((x @ m * x).sum())

    while len(forward) > 3:
        forward.remove(min(forward, key=lambda i: left([j for j in forward if j != i])))
    assert select(x, 3, method="bait-fb-p", noise=noise).indices.tolist() == forward


def test_lcmd_against_its_definition():
    x, c = normal(150, 4), normal(10, 4, seed=1)
    chosen = select(x, 40, train=c, method="lcmd-tp").indices.tolist()
    centres = c
    for i in chosen:
        squared, owner = torch.cdist(x, centres).square().min(1)
        largest = torch.zeros(len(centres), dtype=torch.float64).index_add_(0, owner, squared).argmax()
        assert int(torch.where(owner == largest, squared, -1.0).argmax()) == i
        centres = torch.cat([centres, x[i : i + 1]])


@pytest.mark.parametrize("method", ["lcmd-tp", "lcmd-p", "maxdist-tp", "maxdist-p"])
def test_what_is_computed_ahead_changes_no_choice(method, monkeypatch):
    pool, train = normal(3000, 24), normal(100, 24, seed=1)
    plain = select(pool, 100, train=train, method=method).indices
    monkeypatch.setattr("surrogate.selection.selection._AHEAD", 1)
    assert torch.equal(select(pool, 100, train=train, method=method).indices, plain)


def test_kmeans_pp_draws_by_squared_distance():
    """Chi-squared of 1500 first draws among 6 points given one labelled point: below the 99.9 % quantile 20.5."""
    x, c = normal(6, 3), normal(1, 3, seed=1)
    p = torch.cdist(x, c).square().flatten()
    p = p / p.sum()
    g = generator(8)
    counts = torch.zeros(6, dtype=torch.float64)
    for _ in range(1500):
        counts[kmeans_pp(kernel_distances(DenseFeatures(x), DenseFeatures(c)), 1, generator=g)] += 1
    assert float(((counts - 1500 * p).square() / (1500 * p)).sum()) < 20.5


def test_kmeans_pp_covers_as_scikit_learn_does():
    """Mean potential after 8 centres over 80 runs each: within 4 standard errors of sklearn's."""
    cluster = pytest.importorskip("sklearn.cluster")
    x = normal(300, 3)

    def potential(rows):
        return float(torch.cdist(x, x[rows]).square().min(1).values.sum())

    g = generator(1)
    ours = torch.tensor([potential(select(x, 8, method="kmeanspp-p", generator=g).indices) for _ in range(80)])
    theirs = torch.tensor(
        [
            potential(torch.as_tensor(cluster.kmeans_plusplus(x.numpy(), 8, n_local_trials=1, random_state=s)[1]))
            for s in range(80)
        ]
    )
    assert abs(float(ours.mean() - theirs.mean())) < 4 * float((ours.var() + theirs.var()).sqrt()) / 80**0.5


def test_random_batches_differ_between_generators_and_calls():
    x, g = normal(500, 2), generator(1)
    batches = [select(x, 10, method="random", generator=h).indices.tolist() for h in (g, g, generator(2))]
    assert batches[0] != batches[1] != batches[2]


def test_maxdiag_is_the_largest_variances():
    x = normal(40, 3)
    largest = x.square().sum(1).argsort(descending=True)[:7]
    assert select(x, 7, method="maxdiag").indices.tolist() == largest.tolist()


def test_weights_draw_the_choice():
    x, w = normal(50, 6), torch.ones(50, dtype=torch.float64)
    w[17], w[3] = 1e3, 0.0
    for method in ("maxdet-p", "maxdiag", "bait-f-p"):
        chosen = select(x, 5, method=method, weights=w).indices.tolist()
        assert chosen[0] == 17
        assert 3 not in chosen


@pytest.mark.parametrize("method", BY_KERNEL)
def test_rules_that_need_the_kernel_alone(method):
    x, c = normal(60, 2), normal(5, 2, seed=1)
    pool, train = (KernelFeatures(LaplaceKernel(), part) for part in (x, c))
    result = select_batch(pool, 10, train=train, method=method, transforms=(), generator=generator())
    assert len(set(result.indices.tolist())) == 10


def test_gradients_without_a_sketch_and_with_a_wide_one_mostly_agree():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
    x = normal(400, 3, dtype=torch.float32)
    pool, train = GradientFeatures.of(net, x), GradientFeatures.of(net, x[:20] + 0.1)
    exact = select_batch(pool, 30, train=train, transforms=()).indices
    sketched = select_batch(pool, 30, train=train, transforms=("sketch:2048",), generator=generator()).indices

    def left(rows):
        features = pool.stored()
        near = features.diag()[:, None] + features.diag()[rows] - 2 * features.gram(features.subset(rows))
        return float(near.min(1).values.sum())

    assert left(sketched) < 1.1 * left(exact)
    assert len(set(exact.tolist()) & set(sketched.tolist())) >= 10


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n": 0, "method": "random"}, r"n must be in 1\.\.20"),
        ({"n": 21, "method": "random"}, r"n must be in 1\.\.20"),
        ({"method": "lcmb"}, "method must be one of"),
        ({"method": "random-tp"}, "method must be one of"),
        ({"method": "lcmd-tp"}, "pass train="),
        ({"method": "random", "generator": None}, "pass generator="),
        ({"method": "kmeanspp-p", "generator": None}, "pass generator="),
        ({"method": "random", "feasible": torch.ones(3, dtype=torch.bool)}, r"shape \(20,\)"),
        ({"method": "random", "feasible": torch.ones(20)}, "must be bool"),
        ({"method": "random", "transforms": ("sketsh:3",)}, "a transform is one of"),
        ({"method": "random", "weights": torch.full((20,), torch.nan)}, "finite and not negative"),
    ],
)
def test_what_cannot_be_asked(options, match):
    options = {"n": 3, **options}
    with pytest.raises(ValueError, match=match):
        select(normal(20, 4), options.pop("n"), **options)


def test_features_that_are_not_finite_are_refused_with_their_point():
    x = normal(20, 4)
    x[13, 2] = torch.nan
    with pytest.raises(ValueError, match="point 13 of the pool"):
        select(x, 3, method="maxdiag")


@pytest.mark.parametrize("method", ["bait-f-p", "fw-p"])
def test_rules_that_need_features_say_so(method):
    with pytest.raises(ValueError, match="has no explicit features"):
        select_batch(KernelFeatures(LaplaceKernel(), normal(9, 2)), 3, method=method, transforms=())


def test_the_page_on_selection_runs():
    page = (Path(__file__).resolve().parents[2] / "docs" / "selection.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(code, names)
    assert names["batch"].complete
    for name in METHODS:
        assert f"| `{name}` |" in page


def test_numbers_without_a_kernel_are_refused_with_what_to_do():
    x = np.ones((4, 2))
    with pytest.raises(TypeError, match=r"must be a torch tensor, got ndarray: torch.as_tensor\(x\) makes one"):
        DenseFeatures(x)
    with pytest.raises(TypeError, match=r"pool must be features such as DenseFeatures\(.*\), got ndarray"):
        select_batch(x, 2)
