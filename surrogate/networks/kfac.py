"""K-FAC: natural-gradient steps with Kronecker factors, and step size and momentum from an exact quadratic model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call

from surrogate.networks.factors import Damped, Kronecker, pass_factors
from surrogate.networks.layers import Layer, curved_layers, matrix_gradient, record
from surrogate.networks.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood

__all__ = ["KFAC"]

LOSSES = ("mse", "cross-entropy", "binary-cross-entropy")
_LONGEST_MEMORY = 0.95  # largest weight of the past in the factors' moving average, as in the paper
_SHRINK = 19 / 20  # change of the damping per step, as in the paper
_ROUNDING = 16  # predicted changes below this many rounding units of the loss cannot test the model
_GOOD, _BAD = 0.75, 0.25  # ratios of the true to the predicted change at which the damping falls and rises


class KFAC(torch.optim.Optimizer):
    """Second-order optimiser for networks of linear and convolutional layers.

    Each layer's Fisher matrix is approximated by A (x) G (see ``Kronecker``), with gradients back-propagated from
    targets drawn from the model, which gives the true Fisher matrix rather than the empirical one. The step is alpha D
    + mu P, where D is the natural gradient and P the last step; alpha and mu minimise the quadratic model with the
    exact Fisher matrix of the batch, so there is no learning rate. The damping follows the Levenberg-Marquardt rule.
    K-FAC pays off if the loss is ill-conditioned and batches are large: full batches of up to a few thousand rows, and
    deep and narrow networks.

        optimizer = KFAC(model, loss="mse")
        for _ in range(100):
            optimizer.zero_grad()
            loss = optimizer.step(closure)

    where ``closure`` is as for ``torch.optim.LBFGS``: it clears the gradients, evaluates the model once on the batch,
    calls ``backward`` on the loss and returns it. A step costs about four gradients, O(a^3 + b^3) for each layer with a
    inputs and b outputs, and every ``adapt_every`` steps one more gradient.

    Args:
        model: The network; only ``nn.Linear``, ``nn.Conv1d`` and ``nn.Conv2d`` may have trainable parameters.
        loss: Kind of loss that the closure returns: "mse" is ``nn.MSELoss``, "cross-entropy" ``nn.CrossEntropyLoss``
            and "binary-cross-entropy" ``nn.BCEWithLogitsLoss``, each with its default mean reduction.
        damping: lambda at the first step; 0.1 suits a loss of order 1, a poor starting point needs more.
        weight_decay: eta: eta / 2 times the sum of squares of all parameters is added to the loss.
        adapt_every: Steps between changes of the damping.
        refresh_every: Steps between updates of the factors; larger values are cheaper and less exact.
        generator: Generator for drawing targets, on the model's device; None uses torch's global one.

    Departures from the paper: the factored damping is not tuned by trial steps (section 6.6), and there is no
    block-tridiagonal form. With one output the factors are exact, because drawing a target would cost the same.

    Raises:
        ValueError: If an option or a layer cannot be used.

    References:
        Martens & Grosse (2015), https://arxiv.org/abs/1503.05671, algorithm 2.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: str = "mse",
        damping: float = 0.1,
        weight_decay: float = 0.0,
        adapt_every: int = 5,
        refresh_every: int = 1,
        generator: torch.Generator | None = None,
    ) -> None:
        _check_options(loss, damping, weight_decay, adapt_every, refresh_every)
        _load_forward_mode()
        self._layers = curved_layers(model)
        self._model, self._loss, self._generator = model, loss, generator
        defaults = {
            "damping": damping,
            "weight_decay": weight_decay,
            "adapt_every": adapt_every,
            "refresh_every": refresh_every,
            "steps": 0,
        }
        super().__init__([p for layer in self._layers for p in layer.parameters], defaults)

    @property
    def damping(self) -> float:
        """The damping lambda of the next step."""
        return self.param_groups[0]["damping"]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step and returns the loss before it.

        Raises:
            ValueError: If the closure is missing, does not evaluate the model exactly once, or does not call
                ``backward``.
            FloatingPointError: If the loss or the step is not finite.
        """
        if closure is None:
            msg = "KFAC needs a closure that evaluates the model, calls backward and returns the loss"
            raise ValueError(msg)
        group = self.param_groups[0]
        loss, args = self._evaluate(closure)
        gradients = [p.grad + group["weight_decay"] * p.detach() for p in self._parameters]
        if group["steps"] % group["refresh_every"] == 0:
            self._refresh(args, group)
        step, predicted = self._step(args, gradients, group)
        before = self._penalty(group)
        for p, change in zip(self._parameters, step, strict=True):
            p.data.add_(change)
            self.state[p]["step"] = change
        group["steps"] += 1
        if group["steps"] % group["adapt_every"] == 0:
            gain = _number(self._evaluate(closure)[0]) + self._penalty(group) - _number(loss) - before
            if abs(predicted) > _ROUNDING * torch.finfo(self._parameters[0].dtype).eps * abs(_number(loss)):
                self._adapt(gain, predicted, group)
        return loss

    @property
    def _parameters(self) -> list[Tensor]:
        return self.param_groups[0]["params"]

    def _evaluate(self, closure: Callable[[], Any]) -> tuple[Any, tuple[Tensor, ...]]:
        """The loss, and the inputs of the model; leaves the gradients in ``grad``."""
        calls: list[tuple[Tensor, ...]] = []
        handle = self._model.register_forward_pre_hook(lambda _, args: calls.append(args))
        try:
            with torch.enable_grad():
                loss = closure()
        finally:
            handle.remove()
        if len(calls) != 1 or any(p.grad is None for p in self._parameters):
            without = sum(p.grad is None for p in self._parameters)
            msg = (
                "the closure must call the model once and backward on the loss; "
                f"got {len(calls)} calls and {without} parameters without a gradient"
            )
            raise ValueError(msg)
        if not np.isfinite(_number(loss)):
            msg = f"the loss is {_number(loss)}: use a larger damping, or check the data"
            raise FloatingPointError(msg)
        return loss, calls[0]

    def _penalty(self, group: dict[str, Any]) -> float:
        return 0.5 * group["weight_decay"] * _dot(self._parameters, self._parameters) if group["weight_decay"] else 0.0

    def _refresh(self, args: tuple[Tensor, ...], group: dict[str, Any]) -> None:
        """Updates the running averages of the Kronecker factors and their Cholesky factors."""
        passed = record(self._model, self._layers, *args)
        likelihood, sampled = _likelihood(self._loss, passed.output), passed.output.shape[1] > 1
        new = pass_factors(passed, likelihood, sampled=sampled, generator=self._generator)
        count = group["steps"] // group["refresh_every"] + 1
        memory = min(1.0 - 1.0 / count, _LONGEST_MEMORY)
        damping = group["damping"] + group["weight_decay"]
        for layer, factors in zip(self._layers, new, strict=True):
            state = self.state[layer.weight]
            if "inputs" in state:
                factors = Kronecker(state["inputs"], state["gradients"]).mixed(factors, memory)
            damped = factors.damped(damping)
            state["inputs"], state["gradients"] = factors.inputs, factors.gradients
            state["inputs_root"], state["gradients_root"] = damped.inputs, damped.gradients

    def _natural(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """The natural gradient: minus the gradient times the inverse of the damped factors."""
        left, out = list(gradients), []
        for layer in self._layers:
            values = [left.pop(0) for _ in layer.parameters]
            out += _split(layer, -_roots(self.state[layer.weight]).solve(matrix_gradient(layer, values)))
        return out

    @torch.no_grad()
    def _step(
        self, args: tuple[Tensor, ...], gradients: Sequence[Tensor], group: dict[str, Any]
    ) -> tuple[list[Tensor], float]:
        """The step that minimises the quadratic model along both directions, and the predicted change of the loss."""
        directions = [self._natural(gradients)]
        if all("step" in self.state[p] for p in self._parameters):
            directions.append([self.state[p]["step"] for p in self._parameters])
        curvature = self._curvature(args, directions) + (group["damping"] + group["weight_decay"]) * np.array(
            [[_dot(a, b) for b in directions] for a in directions]
        )
        slope = np.array([_dot(gradients, direction) for direction in directions])
        weights = _minimum(curvature, slope)
        step = [
            sum(w * part for w, part in zip(weights, parts, strict=True)) for parts in zip(*directions, strict=True)
        ]
        return step, float(0.5 * slope @ weights)

    def _curvature(self, args: tuple[Tensor, ...], directions: Sequence[Sequence[Tensor]]) -> np.ndarray:
        """Products v^T F w of the directions, with the exact Fisher matrix of the batch: one forward pass each."""
        names = {id(p): name for name, p in self._model.named_parameters()}
        pushed, f = [], torch.empty(0)
        for direction in directions:
            with forward_ad.dual_level():
                pairs = zip(self._parameters, direction, strict=True)
                values = {names[id(p)]: forward_ad.make_dual(p.detach(), part) for p, part in pairs}
                f, along = forward_ad.unpack_dual(functional_call(self._model, values, args))
            pushed.append(along.reshape(len(along), -1))
        f = f.reshape(len(f), -1)
        likelihood = _likelihood(self._loss, f)
        return np.array([[float(likelihood.curvature(f, a, b).mean()) for b in pushed] for a in pushed])

    def _adapt(self, change: float, predicted: float, group: dict[str, Any]) -> None:
        """Adapts the damping by the Levenberg-Marquardt rule."""
        ratio = change / predicted
        factor = _SHRINK ** group["adapt_every"]
        if ratio > _GOOD:
            group["damping"] *= factor
        elif ratio < _BAD:
            group["damping"] /= factor


def _load_forward_mode() -> None:
    """Loads torch's forward-mode rules without the warnings that their first use triggers inside torch."""
    with warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", DeprecationWarning)
        forward_ad.make_dual(torch.zeros(1), torch.zeros(1))


def _check_options(loss: str, damping: float, weight_decay: float, adapt_every: int, refresh_every: int) -> None:
    if loss not in LOSSES:
        msg = f"loss must be one of {', '.join(LOSSES)}, got {loss!r}"
        raise ValueError(msg)
    if not damping > 0 or weight_decay < 0 or adapt_every < 1 or refresh_every < 1:
        msg = (
            "expected damping > 0, weight_decay >= 0, adapt_every >= 1 and refresh_every >= 1, "
            f"got {damping}, {weight_decay}, {adapt_every} and {refresh_every}"
        )
        raise ValueError(msg)


def _number(loss: Any) -> float:
    return float(loss.detach() if isinstance(loss, Tensor) else loss)


def _likelihood(loss: str, outputs: Tensor) -> Likelihood:
    """The likelihood whose mean negative log-density has the loss's curvature; losses also average over outputs."""
    if loss == "cross-entropy":
        return Categorical()
    count = outputs.shape[1]
    return Gaussian(0.5 * count) if loss == "mse" else Bernoulli(1.0 / count)


def _roots(state: dict[str, Any]) -> Damped:
    return Damped(state["inputs_root"], state["gradients_root"])


def _split(layer: Layer, matrix: Tensor) -> list[Tensor]:
    """Weight and bias from a joint matrix of parameters."""
    if layer.bias is None:
        return [matrix.reshape(layer.weight.shape)]
    return [matrix[:, :-1].reshape(layer.weight.shape), matrix[:, -1].clone()]


def _dot(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    return float(torch.stack([(x.detach() * y.detach()).sum().double() for x, y in zip(a, b, strict=True)]).sum())


def _minimum(curvature: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """The w that minimises w^T C w / 2 + slope^T w, each direction scaled to a curvature of 1."""
    size = np.sqrt(np.maximum(np.diag(curvature), 0.0))
    if not np.isfinite(curvature).all() or not np.isfinite(slope).all() or not size[0] > 0:
        if not slope.any():
            return np.zeros(len(slope))  # at a stationary point
        msg = f"the quadratic model is not finite (curvature {curvature.tolist()}): use a larger damping"
        raise FloatingPointError(msg)
    size = np.where(size > 0, size, 1.0)
    scaled = curvature / np.outer(size, size)
    # For directions equal up to rounding, the pseudo-inverse divides the step between them.
    return -(np.linalg.pinv(scaled, rcond=1e-10, hermitian=True) @ (slope / size)) / size
