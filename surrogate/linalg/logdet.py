"""Log-determinants of K + noise and their derivatives, by preconditioned Lanczos quadrature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from surrogate.linalg.operators import KernelOperator, Operator
from surrogate.linalg.preconditioners import NystromPreconditioner, Preconditioner
from surrogate.linalg.solvers import Solve, cg, tridiagonal_matrix

__all__ = [
    "KnownTrace",
    "LogDeterminant",
    "TraceGradient",
    "draw_probes",
    "log_determinant",
    "preconditioned_trace",
    "quadrature",
    "trace_gradient",
    "trace_slope",
]


class LogDeterminant(NamedTuple):
    """An estimate of a natural log-determinant, and its standard error."""

    value: float
    standard_error: float


class TraceGradient(NamedTuple):
    """Estimates of the derivatives of log det(K + noise) with respect to logarithms of the hyperparameters.

    Attributes:
        lengthscale: Derivatives with respect to the log-lengthscales, with shape (d,).
        outputscale: Derivative with respect to the log outputscale, with shape ().
        noise: Derivative with respect to the log of a common factor on the noise variances, with shape ().
    """

    lengthscale: Tensor
    outputscale: Tensor
    noise: Tensor


def draw_probes(
    operator: Operator, count: int, *, preconditioner: Preconditioner | None, generator: torch.Generator
) -> Tensor:
    """Probes from N(0, P), with shape (n, count); P is the identity if there is no preconditioner."""
    if preconditioner is None:
        n, dtype, device = operator.shape[0], operator.dtype, operator.device
        return torch.randn(n, count, dtype=dtype, device=device, generator=generator)
    return preconditioner.sample(count, generator=generator)


def log_determinant(
    operator: Operator,
    *,
    noise: float | Tensor,
    generator: torch.Generator,
    preconditioner: Preconditioner | None = None,
    probes: int = 10,
    tolerance: float = 1e-2,
    max_iterations: int = 1000,
) -> LogDeterminant:
    """Stochastic Lanczos estimate of log det(K + noise) = log det P + tr log(P^-1/2 (K + noise) P^-1/2).

    The first term is exact. The better the preconditioner, the smaller the remainder estimated by the probes and its
    scatter; the rank must exceed the number of eigenvalues above the noise before the scatter falls. For a low-rank P
    in float64 the exact trace of P^-1 (K + noise) reduces it further (see `quadrature`).

    Args:
        operator: K, with shape (n, n).
        noise: Variance added to the diagonal, or variances with shape (n,).
        generator: Draws the probes; the same state gives the same value, as a line search needs.
        preconditioner: P near K + noise.
        probes: Number of random vectors; at least 2 for a standard error.
        tolerance: Relative residual of the conjugate gradients.
        max_iterations: Largest number of products with K.

    References:
        Ubaru, Chen & Saad (2017), doi:10.1137/16M1104974; Gardner et al. (2018), arXiv:1809.11165; variance reduction,
        Wenger, Pleiss, Hennig, Cunningham & Gardner (2022), arXiv:2107.00243
    """
    z = draw_probes(operator, probes, preconditioner=preconditioner, generator=generator)
    solve = cg(
        operator,
        z,
        noise=noise,
        preconditioner=preconditioner,
        tolerance=tolerance,
        max_iterations=max_iterations,
        min_iterations=10,
    )
    trace = None
    if isinstance(preconditioner, NystromPreconditioner) and operator.dtype == torch.float64:
        trace = preconditioned_trace(operator, noise=noise, preconditioner=preconditioner)
    return quadrature(solve, operator.shape[0], preconditioner=preconditioner, trace=trace)


def preconditioned_trace(operator: Operator, *, noise: float | Tensor, preconditioner: NystromPreconditioner) -> float:
    """The exact trace of P^-1 (K + noise), from the diagonal of K and one product with as many columns as P has.

    It is a small difference divided by the noise, so use float64.
    """
    return KnownTrace.of(operator, noise=noise, preconditioner=preconditioner).value


def quadrature(
    solve: Solve,
    n: int,
    *,
    preconditioner: Preconditioner | None = None,
    columns: slice = slice(None),
    trace: float | None = None,
) -> LogDeterminant:
    """An estimate of the log-determinant from a run of `cg` on probes from N(0, P).

    The first entry of a Lanczos matrix times n is the same probe's estimate of the trace of P^-1 (K + noise). If that
    trace is given, the probes' error in it is regressed out of the logarithms. For a squared-exponential kernel with n
    = 1000 and rank 100 the scatter fell 40 times at noise 1e-2 and 4 times at noise 1e-4. This control variate is not
    in the papers. Without a low-rank preconditioner the largest eigenvalue dominates the trace, and the scatter
    doubled.

    Args:
        solve: Solution of (K + noise) x = z, with zero start.
        n: Size of K.
        preconditioner: The P of the run.
        columns: Indices of the right-hand sides that are probes, because one run may solve for data and probes.
        trace: Trace by `preconditioned_trace`; used if there are at least 4 probes.
    """
    samples, firsts = _samples(solve, n, columns)
    exact = 0.0 if preconditioner is None else preconditioner.logdet()
    spent = 1
    slope = 0.0 if trace is None else trace_slope(solve, n, columns=columns)
    if trace is not None and slope != 0.0:
        samples, spent = samples - slope * (firsts - trace), 2
    freedom = len(samples) - spent
    error = float((samples.var(correction=spent) / len(samples)).sqrt()) if freedom > 0 else float("nan")
    return LogDeterminant(exact + float(samples.mean()), error)


def trace_slope(solve: Solve, n: int, *, columns: slice = slice(None)) -> float:
    """Regression slope of the logarithm's error on the trace's, by which `quadrature` corrects its estimate.

    It is nearly 1 if P is close to K + noise, and 0 (no correction) if there are fewer than 4 probes or one of them
    took no iteration.

    Args:
        solve: Solution of (K + noise) x = z, with zero start.
        n: Size of K.
        columns: Indices of the right-hand sides that are probes.
    """
    samples, firsts = _samples(solve, n, columns)
    return _slope(samples, firsts) if len(firsts) >= 4 and len(firsts) == len(samples) else 0.0


def _samples(solve: Solve, n: int, columns: slice) -> tuple[Tensor, Tensor]:
    """Estimates of tr log(P^-1 (K + noise)) and of tr(P^-1 (K + noise)); the latter from probes that made a step."""
    pairs = solve.tridiagonals[columns]
    logs = torch.tensor([_first_entry_of_log(*pair) for pair in pairs], dtype=torch.float64)
    firsts = torch.tensor([float(diagonal[0]) for diagonal, _ in pairs if len(diagonal)], dtype=torch.float64)
    return n * logs, n * firsts


def _slope(samples: Tensor, firsts: Tensor) -> float:
    centred = firsts - firsts.mean()
    return float((centred @ samples) / centred.square().sum().clamp(min=torch.finfo(firsts.dtype).tiny))


def _first_entry_of_log(diagonal: Tensor, off: Tensor) -> float:
    """e_1^T log(T) e_1, the Lanczos quadrature of z^T log(A) z for a start vector z of norm one; 0 if T is empty."""
    if len(diagonal) == 0:
        return 0.0
    values, vectors = torch.linalg.eigh(tridiagonal_matrix(diagonal, off))
    return float(vectors[0].square() @ values.clamp(min=torch.finfo(values.dtype).tiny).log())


def trace_gradient(
    operator: KernelOperator,
    x: Tensor,
    z: Tensor,
    *,
    noise: float | Tensor,
    preconditioner: Preconditioner | None,
    known: KnownTrace | None = None,
    slope: float = 0.0,
) -> TraceGradient:
    """Derivatives of log det(K + noise) from the solutions x = (K + noise)^-1 z for probes z from N(0, P).

    tr((K + noise)^-1 dK) is the mean of x^T dK P^-1 z over the probes. If the preconditioner is a factor with pivots, P
    depends on the hyperparameters too. tr(P^-1 dP) is then computed exactly with fixed pivots, and probes estimate only
    the difference, so their scatter falls like that of the value.

    With ``known`` and the slope of the value the result is the derivative of `quadrature` with a known trace at a fixed
    slope: the probes' error in d tr(P^-1 (K + noise)) is removed too. At n = 1000 and rank 100 this reduced the scatter
    75 times at noise 1e-2 and 3.4 times at noise 1e-4.

    Args:
        operator: K.
        x: Solutions, with shape (n, t).
        z: Probes, with shape (n, t).
        noise: Noise variance, or variances with shape (n,).
        preconditioner: The preconditioner P of the solutions.
        known: Exact trace for this K, noise and P; P must have pivots.
        slope: Slope by `trace_slope`.

    References:
        Wenger, Pleiss, Hennig, Cunningham & Gardner (2022), arXiv:2107.00243, section 3
    """
    w = z if preconditioner is None else preconditioner.solve(z)
    estimate, count = _form(operator, x, w, noise), z.shape[1]
    if not isinstance(preconditioner, NystromPreconditioner) or preconditioner.factor.pivots is None:
        return TraceGradient(*(part / count for part in estimate))
    derivative = _PivotDerivative.of(operator, preconditioner, preconditioner.factor.pivots)
    exact, sampled = derivative.of_log_determinant(), derivative.form(w, w)
    out = [e + (a - s) / count for e, a, s in zip(exact, estimate, sampled, strict=True)]
    if known is None or slope == 0.0:
        return TraceGradient(*out)
    off = _trace_error(operator, w, known, derivative)
    return TraceGradient(*(value - slope * error for value, error in zip(out, off, strict=True)))


def _form(operator: KernelOperator, left: Tensor, right: Tensor, noise: float | Tensor) -> TraceGradient:
    """The sum over columns of left^T d(K + noise) right."""
    variances = torch.as_tensor(noise, dtype=left.dtype, device=left.device).expand(len(left))
    return TraceGradient(*operator.gradient(left, right), ((left * right).sum(1) * variances).sum())


@dataclass(frozen=True, eq=False)
class KnownTrace:
    """The exact trace of P^-1 (K + noise), with the matrices for its derivatives.

    Attributes:
        operator: K.
        noise: Variance, or variances with shape (n,).
        preconditioner: P, with P^-1 = D^-1 - W W^T.
        complement: W, with shape (n, rank).
        product: (K + noise) W, with shape (n, rank).
    """

    operator: Operator
    noise: float | Tensor
    preconditioner: NystromPreconditioner
    complement: Tensor
    product: Tensor

    @classmethod
    def of(cls, operator: Operator, *, noise: float | Tensor, preconditioner: NystromPreconditioner) -> KnownTrace:
        """The trace, from one product of K with as many columns as P has."""
        w = preconditioner.complement()
        shift = torch.as_tensor(noise, dtype=w.dtype, device=w.device).expand(len(w))
        return cls(operator, noise, preconditioner, w, operator.matmul(w) + shift[:, None] * w)

    @property
    def diagonal(self) -> Tensor:
        """Diagonal of K + noise, with shape (n,)."""
        return self.operator.diag() + self.noise

    @property
    def value(self) -> float:
        """The trace."""
        ratio = self.diagonal / self.preconditioner.noise
        return float(ratio.sum() - (self.complement * self.product).sum())

    def sandwich(self, b: Tensor) -> tuple[Tensor, Tensor]:
        """M B and the diagonal of M = P^-1 (K + noise) P^-1, for B = F b: with shapes (n, k) and (n,).

        Needs no further product with K, because P^-1 F = W R^-T.
        """
        p, w = self.preconditioner, self.complement
        inner = torch.linalg.solve_triangular(p.triangle.T, b.double(), upper=False).to(b.dtype)
        crossed = (w @ (w.T @ self.product) - 2.0 * self.product / p.noise[:, None]) * w
        return p.solve(self.product @ inner), self.diagonal / p.noise.square() + crossed.sum(1)


@dataclass(frozen=True, eq=False)
class _PivotDerivative:
    """dP for P = C S^-1 C^T + D with C = K[:, pivots] and S = K[pivots, pivots], with fixed pivots.

    With B = C S^-1: dP = dC B^T + B dC^T - B dS B^T + dD.

    Attributes:
        preconditioner: P.
        wide: C.
        small: S.
        weights: V with B = F V: F = C X with X X^T = S^-1 and F[pivots] = S X, so that B = C X X^T = F F[pivots]^-1.
    """

    preconditioner: NystromPreconditioner
    wide: KernelOperator
    small: KernelOperator
    weights: Tensor

    @classmethod
    def of(cls, operator: KernelOperator, preconditioner: NystromPreconditioner, pivots: Tensor) -> _PivotDerivative:
        weights = torch.linalg.pinv(preconditioner.factor.factor[pivots])
        return cls(preconditioner, operator.to_columns(pivots), operator.selected(pivots), weights)

    @property
    def b(self) -> Tensor:
        return self.preconditioner.factor.factor @ self.weights

    def of_log_determinant(self) -> TraceGradient:
        """Derivative of log|P|, tr(P^-1 dP)."""
        return self.trace(self.preconditioner.solve(self.b), self.preconditioner.inverse_diag())

    def trace(self, product: Tensor, diagonal: Tensor) -> TraceGradient:
        """tr(M dP) from M B and the diagonal of a symmetric M."""
        eye = torch.eye(product.shape[1], dtype=product.dtype, device=product.device)
        wide, small = self.wide.gradient(product, eye), self.small.gradient(self.b.T @ product, eye)
        of_noise = (diagonal * self.preconditioner.noise).sum()
        return TraceGradient(2.0 * wide[0] - small[0], 2.0 * wide[1] - small[1], of_noise)

    def form(self, left: Tensor, right: Tensor) -> TraceGradient:
        """The sum over columns of left^T dP right."""
        b = self.b
        near, far = b.T @ left, b.T @ right
        first, second = self.wide.gradient(left, far), self.wide.gradient(right, near)
        third = self.small.gradient(near, far)
        of_noise = ((left * right).sum(1) * self.preconditioner.noise).sum()
        lengthscale, outputscale = (p + q - r for p, q, r in zip(first, second, third, strict=True))
        return TraceGradient(lengthscale, outputscale, of_noise)


def _trace_error(operator: KernelOperator, w: Tensor, known: KnownTrace, derivative: _PivotDerivative) -> TraceGradient:
    """Error of the probes' estimate of the derivative of tr(P^-1 (K + noise)): the estimate minus the exact derivative.

    It is tr(P^-1 d(K + noise)) - tr(M dP) with M = P^-1 (K + noise) P^-1, and for w = P^-1 z the mean of
    w^T d(K + noise) w - w^T dP P^-1 (K + noise) w.
    """
    p, count, noise = known.preconditioner, w.shape[1], known.noise
    shift = torch.as_tensor(noise, dtype=w.dtype, device=w.device).expand(len(w))
    u = p.solve(operator.matmul(w) + shift[:, None] * w)
    by_w = operator.gradient(known.complement, known.complement)
    of_diagonal = (operator.diag() / p.noise).sum()  # the diagonal does not depend on the lengthscales
    exact = TraceGradient(-by_w[0], of_diagonal - by_w[1], (p.inverse_diag() * shift).sum())
    parts = zip(
        _form(operator, w, w, noise),
        derivative.form(w, u),
        exact,
        derivative.trace(*known.sandwich(derivative.weights)),
        strict=True,
    )
    return TraceGradient(*((sampled - crossed) / count - (k - m) for sampled, crossed, k, m in parts))
