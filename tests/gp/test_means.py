import numpy as np
import pytest
import torch
from sklearn.preprocessing import PolynomialFeatures

from surrogate.gp.means import TREND_DEGREES, Gated, Polynomial, Tilted

CASES = [(name, d) for name in TREND_DEGREES for d in (1, 2, 5)]


@pytest.fixture(params=CASES, ids=[f"{name} {d}" for name, d in CASES])
def case(request):
    name, d = request.param
    return Polynomial(name), d


def points(n, d, *, dtype=torch.float64, device="cpu"):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(1)).to(dtype=dtype, device=device)


def test_size_is_that_of_the_basis(case):
    trend, d = case
    assert trend.basis(points(4, d)).shape == (4, trend.size(d))


def test_basis_spans_all_polynomials_of_its_degree(case):
    """The same space as the monomials of scikit-learn, no more and no less."""
    trend, d = case
    u = points(40, d)
    monomials = PolynomialFeatures(TREND_DEGREES[trend.name]).fit_transform(u.numpy())
    basis = trend.basis(u).numpy()
    assert monomials.shape == basis.shape
    rank = np.linalg.matrix_rank(np.concatenate([monomials, basis], 1))
    assert rank == np.linalg.matrix_rank(basis) == trend.size(d)


def test_polynomial_is_the_combination_of_the_basis(case, dtype, device, tolerance):
    trend, d = case
    u = points(10, d, dtype=dtype, device=device)
    coefficients = points(trend.size(d), 1, dtype=dtype, device=device)[:, 0]
    c, b, quadratic = trend.polynomial(coefficients, d)
    value = c + u @ b + ((u @ quadratic) * u).sum(1)
    torch.testing.assert_close(value, trend.basis(u) @ coefficients, **tolerance(10.0))


def test_quadratic_part_is_symmetric(case):
    trend, d = case
    quadratic = trend.polynomial(points(trend.size(d), 1)[:, 0], d)[2]
    assert torch.equal(quadratic, quadratic.T)


def test_other_degrees_are_refused():
    with pytest.raises(ValueError, match=r"trend must be one of \['constant', 'linear', 'quadratic'\], got 'cubic'"):
        Polynomial("cubic")


@pytest.fixture(params=[False, True], ids=["line", "axes"])
def tilted(request):
    along, across, axes = points(3, 1)[:, 0].numpy(), points(3, 2).numpy(), points(3, 4).numpy()
    rows = tuple(map(tuple, axes)) if request.param else ()
    return Tilted(tuple(along), tuple(map(tuple, across)), rows)


def test_tilted_basis_is_a_polynomial_and_a_quadratic_times_an_exponential(tilted):
    u = points(10, 3)
    a, b = torch.tensor(tilted.along), torch.tensor(tilted.across)
    quadratic = Polynomial("quadratic").basis(u @ b)
    plain = torch.stack([10.0 + 0 * u[:, 0], 10 * u @ a / a.norm()], 1)
    if tilted.axes:
        v = u @ torch.tensor(tilted.axes)
        plain = torch.cat([40.0 + 0 * v[:, :1], 10.0 * v, 3.0 * v**2], 1)
    expected = torch.cat([plain, torch.exp(u @ a)[:, None] * quadratic], 1)
    assert tilted.size(3) == expected.shape[1]
    torch.testing.assert_close(tilted.basis(u), expected)


def assert_slopes_are_derivatives(mean):
    u = points(4, 3)
    expected = torch.autograd.functional.jacobian(mean.basis, u).diagonal(dim1=0, dim2=2).permute(2, 1, 0)
    torch.testing.assert_close(mean.slopes(u), expected)


def test_tilted_slopes_are_the_derivatives_of_the_basis(tilted):
    assert_slopes_are_derivatives(tilted)


def test_tilted_quadratics_are_the_combination_of_the_basis(tilted):
    u, coefficients = points(10, 3), points(tilted.size(3), 1)[:, 0]
    plain, times = (c + u @ b + ((u @ q) * u).sum(1) for c, b, q in tilted.quadratics(coefficients))
    value = plain + torch.exp(u @ torch.tensor(tilted.along)) * times
    torch.testing.assert_close(value, tilted.basis(u) @ coefficients)


@pytest.fixture
def gated():
    gates = points(2, 1 + 3 + 9)
    square = gates[:, 4:].reshape(2, 3, 3)
    return Gated(tuple(map(tuple, torch.cat([gates[:, :4], -(square @ square.mT).reshape(2, 9)], 1).tolist())))


def gates_of(gated, u):
    """Each gate at u, and the coordinates in which it is a constant minus half a square."""
    for row in u.new_tensor(gated.gates):
        b, square = row[1:4], row[4:].reshape(3, 3)
        value = row[0] + u @ b + ((u @ square) * u).sum(1)
        v = (u + 0.5 * torch.linalg.solve(square, b)) @ torch.linalg.cholesky(-2.0 * square)
        top = value + 0.5 * v.square().sum(1)
        torch.testing.assert_close(top, top[:1].expand(len(u)))
        yield value, v


def test_gated_basis_is_a_quadratic_for_each_share(gated):
    u = points(10, 3)
    gates, frames = zip(*gates_of(gated, u), strict=True)
    i, j = torch.triu_indices(3, 3)
    bases = [torch.cat([10.0 + 0 * v[:, :1], v, 0.3 * v[:, i] * v[:, j]], 1) for v in frames]
    shares = torch.stack(gates, 1).softmax(1).T
    expected = torch.cat([share[:, None] * basis for share, basis in zip(shares, bases, strict=True)], 1)
    assert gated.size(3) == expected.shape[1]
    torch.testing.assert_close(gated.basis(u), expected)
    assert gated.basis(u[:0]).shape == (0, expected.shape[1])


def test_gated_slopes_are_the_derivatives_of_the_basis(gated):
    assert_slopes_are_derivatives(gated)


def test_gated_basis_is_the_sum_of_its_quadratics(gated):
    u, coefficients = points(10, 3), points(gated.size(3), 1)[:, 0]
    parts = [c + u @ b + ((u @ square) * u).sum(1) for c, b, square in gated.quadratics(coefficients, 3)]
    torch.testing.assert_close((gated.shares(u) * torch.stack(parts, 1)).sum(1), gated.basis(u) @ coefficients)
