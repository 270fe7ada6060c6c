"""Networks as arrays of float32, bfloat16 or 8-bit integers that can be evaluated with numpy only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from torch import Tensor, nn

from surrogate.arrays import Array
from surrogate.networks.quantisation import Activations, integers_of_rows, quantised

__all__ = ["PRECISIONS", "PortableNetwork", "Precision", "evaluator"]

Arrays = Mapping[str, NDArray]
Precision = Literal["float32", "bf16", "int8"]
PRECISIONS = ("float32", "bf16", "int8")

_FUNCTIONS: dict[str, tuple[type[nn.Module], Callable[[NDArray], NDArray]]] = {
    "relu": (nn.ReLU, lambda z: np.maximum(z, 0.0)),
    "silu": (nn.SiLU, lambda z: 0.5 * z * (1.0 + np.tanh(0.5 * z))),
    "tanh": (nn.Tanh, np.tanh),
}
# Zeros are omitted if the remaining weights plus a mask of one bit per weight take less space.
_SPARSE = 0.5


@dataclass(frozen=True, eq=False)
class PortableNetwork:
    """The mean output of several networks, or of their class probabilities, as a function of the columns of a table.

    y_m = target_mean + target_scale f_m(b tanh((x - mean) / (b scale))). The prediction is the mean of y_m over the
    networks m; with classes it is that of softmax(y_m), where 1 / target_scale is the temperature of the logits f_m.

    Attributes:
        mean: Mean of the columns, with shape (d,).
        scale: With shape (d,).
        bound: b.
        target_mean: Added to the output.
        target_scale: Factor on the output.
        networks: f_m: linear layers with biases, separated by ReLU, SiLU or tanh.
        classes: Names of the classes, numbers or words, one for each output, with shape (c,); None for regression.
    """

    mean: Array
    scale: Array
    bound: float
    target_mean: float
    target_scale: float
    networks: tuple[nn.Sequential, ...]
    classes: NDArray | None = None

    def predict(self, x: ArrayLike) -> Array:
        """The prediction for columns with shape (n, d): numbers with shape (n,), or probabilities with shape (n, c)."""
        with torch.no_grad():
            return self.module()(torch.from_numpy(np.asarray(x, dtype=float))).numpy()

    def scaled(self, x: ArrayLike) -> Tensor:
        """The scaled inputs of the networks, in single precision, with shape (n, d)."""
        squashed = self.bound * np.tanh((np.asarray(x, dtype=float) - self.mean) / (self.bound * self.scale))
        return torch.from_numpy(squashed.astype(np.float32))

    def to_arrays(self, precision: Precision = "float32") -> dict[str, NDArray]:
        """All parameters as arrays, in the format described in ``evaluator``.

        Raises:
            ValueError: If the precision is unknown, or a network has unsupported layers.
        """
        if precision not in PRECISIONS:
            msg = f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}"
            raise ValueError(msg)
        arrays: dict[str, NDArray] = {
            "inputs/mean": np.asarray(self.mean, dtype=float),
            "inputs/scale": np.asarray(self.scale, dtype=float),
            "inputs/bound": np.array(self.bound, dtype=float),
            "target": np.array([self.target_mean, self.target_scale]),
            "activation": np.array(_activation(self.networks)),
        }
        if self.classes is not None:
            arrays["classes"] = np.asarray(self.classes)
        for member, network in enumerate(self.networks):
            for number, layer in enumerate(_linear_layers(network)):
                arrays.update(_layer_arrays(f"{member}/{number}", layer, precision))
        return arrays

    @classmethod
    def of_arrays(cls, arrays: Arrays) -> PortableNetwork:
        """The network stored in the arrays of ``to_arrays``, in single precision.

        Raises:
            ValueError: If arrays are missing or inconsistent.
        """
        try:
            function = _FUNCTIONS[str(arrays["activation"])][0]
            networks = tuple(_network(layers, function) for layers in _members(arrays))
            mean, scale = (np.asarray(arrays[f"inputs/{name}"], dtype=float) for name in ("mean", "scale"))
            bound = float(arrays["inputs/bound"])
            target_mean, target_scale = (float(number) for number in arrays["target"])
            classes = arrays.get("classes")
        except KeyError as error:
            msg = f"these arrays are not a network: {error} is missing or unknown"
            raise ValueError(msg) from error
        except (TypeError, IndexError, OverflowError, MemoryError) as error:
            msg = f"these arrays are not a network: {error}"
            raise ValueError(msg) from error
        if not networks or networks[0][0].in_features != len(mean) or mean.shape != scale.shape:
            msg = f"these arrays are not a network of {len(mean)} columns: the first layer has another size"
            raise ValueError(msg)
        outputs = networks[0][-1].out_features
        if outputs != (1 if classes is None else len(classes)):
            msg = f"these arrays are not a network: {outputs} outputs for {'a number' if classes is None else classes}"
            raise ValueError(msg)
        return cls(mean, scale, bound, target_mean, target_scale, networks, classes)

    def module(
        self, precision: Precision = "float32", activations: Activations = "none", sample: Tensor | None = None
    ) -> nn.Module:
        """A torch module that maps columns, with shape (n, d) in double precision, to predictions, see ``predict``.

        Args:
            precision: Precision of the weights; with "bf16" products are also computed in bfloat16.
            activations: Quantisation of activations with "int8", see ``quantisation.QuantisedLinear``.
            sample: For "static": columns, with shape (n, d).
        """
        given = None if sample is None else self.scaled(sample.numpy())
        networks = [_convert(network, precision, activations, given) for network in self.networks]
        return _Whole(self, networks)


def evaluator(arrays: Arrays) -> Callable[[ArrayLike], Array]:
    """A function that predicts with numpy alone, in single precision, from columns with shape (n, d).

    The arrays are: ``inputs/mean``, ``inputs/scale`` and ``inputs/bound``; ``target``, mean and scale; ``activation``;
    and for layer l of network m ``m/l/bias`` and ``m/l/weight``, with shapes (out,) and (out, in). Weights stored as
    16-bit integers are bfloat16, the upper halves of single-precision numbers. If there is ``m/l/scale``, with shape
    (out,), weights are 8-bit integers to be multiplied by it. If there are ``m/l/kept`` and ``m/l/shape``, only the
    entries whose bit is 1 are stored, in row-major order. If there is ``classes``, with shape (c,), ``target`` is 0 and
    the inverse temperature of the logits, and the function returns probabilities, with shape (n, c).
    """
    function = _FUNCTIONS[str(arrays["activation"])][1]
    members = [list(layers) for layers in _members(arrays)]
    mean, scale, bound = arrays["inputs/mean"], arrays["inputs/scale"], float(arrays["inputs/bound"])
    location, size = (float(number) for number in arrays["target"])

    def evaluate(x: ArrayLike) -> Array:
        given = (bound * np.tanh((np.asarray(x, dtype=float) - mean) / (bound * scale))).astype(np.float32)
        outputs = []
        for layers in members:
            z = given
            for number, (weight, bias) in enumerate(layers):
                z = (function(z) if number else z) @ weight.T + bias
            outputs.append(location + size * z.astype(float))
        if "classes" in arrays:
            return np.mean([softmax(output, axis=1) for output in outputs], axis=0)
        return np.mean(outputs, axis=0)[:, 0]

    return evaluate


class _Whole(nn.Module):
    """A module that maps columns to predictions, including the scaling."""

    mean: Tensor
    divisor: Tensor

    def __init__(self, portable: PortableNetwork, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.register_buffer("mean", torch.from_numpy(portable.mean))
        self.register_buffer("divisor", torch.from_numpy(portable.bound * portable.scale))
        self.bound, self.target = portable.bound, (portable.target_mean, portable.target_scale)
        self.probabilities = portable.classes is not None

    def forward(self, x: Tensor) -> Tensor:
        given = (self.bound * torch.tanh((x - self.mean) / self.divisor)).float()
        outputs = self.target[0] + self.target[1] * torch.stack([network(given).double() for network in self.networks])
        return outputs.softmax(2).mean(0) if self.probabilities else outputs.mean(0).squeeze(1)


class _HalfLinear(nn.Module):
    """A linear layer in bfloat16 that accumulates in single precision."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", layer.weight.detach().bfloat16())
        self.register_buffer("bias", layer.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x.bfloat16(), self.weight).float() + self.bias


def _convert(network: nn.Sequential, precision: str, activations: Activations, sample: Tensor | None) -> nn.Module:
    if precision == "int8":
        return quantised(network, activations, sample=sample)
    if precision == "bf16":
        return nn.Sequential(*(_HalfLinear(part) if isinstance(part, nn.Linear) else part for part in network))
    return network


def _linear_layers(network: nn.Sequential) -> list[nn.Linear]:
    return [layer for layer in network if isinstance(layer, nn.Linear)]


def _activation(networks: tuple[nn.Sequential, ...]) -> str:
    """Name of the activation; raises ValueError if the networks are not of linear layers with a single activation."""
    others = {type(part) for network in networks for part in network if not isinstance(part, nn.Linear)}
    names = [name for name, (kind, _) in _FUNCTIONS.items() if others <= {kind}]
    alternate = all(
        isinstance(part, nn.Linear) == (k % 2 == 0) and len(network) % 2
        for network in networks
        for k, part in enumerate(network)
    )
    if not (networks and names and alternate):
        msg = f"networks must be linear layers with one of {', '.join(_FUNCTIONS)} between them, "
        msg += f"got {sorted(kind.__name__ for kind in others)} between"
        raise ValueError(msg)
    return names[0]


def _layer_arrays(name: str, layer: nn.Linear, precision: Precision) -> dict[str, NDArray]:
    weight, arrays = layer.weight.detach().float().cpu(), {}
    numbers = weight.numpy()
    if precision == "int8":
        integers, scale = integers_of_rows(weight)
        numbers, arrays[f"{name}/scale"] = integers.numpy(), scale.numpy()
    elif precision == "bf16":
        numbers = weight.bfloat16().view(torch.int16).numpy().view(np.uint16)
    kept = (numbers & 0x7FFF if precision == "bf16" else numbers) != 0  # -0 is 0
    if kept.mean() < _SPARSE:
        arrays[f"{name}/kept"] = np.packbits(kept)
        arrays[f"{name}/shape"] = np.array(numbers.shape)
        numbers = numbers[kept]
    bias = layer.bias.detach().float().cpu().numpy()
    return {f"{name}/weight": numbers, f"{name}/bias": bias, **arrays}


def _members(arrays: Arrays) -> Iterator[Iterator[tuple[NDArray, NDArray]]]:
    """Weights and biases in single precision, network by network, layer by layer."""
    member = 0
    while f"{member}/0/weight" in arrays:
        yield _layers(arrays, member)
        member += 1


def _layers(arrays: Arrays, member: int) -> Iterator[tuple[NDArray, NDArray]]:
    number = 0
    while (name := f"{member}/{number}") + "/weight" in arrays:
        weight = arrays[f"{name}/weight"]
        if weight.dtype == np.uint16:
            weight = (weight.astype(np.uint32) << 16).view(np.float32)
        if f"{name}/kept" in arrays:
            full = np.zeros(tuple(arrays[f"{name}/shape"]), np.float32)
            full[np.unpackbits(arrays[f"{name}/kept"], count=full.size).astype(bool).reshape(full.shape)] = weight
            weight = full
        if weight.dtype.kind not in "fi":
            msg = f"{name}/weight must be numbers, got {weight.dtype}"
            raise ValueError(msg)
        with np.errstate(over="ignore", invalid="ignore"):  # what is too large becomes infinite and is refused
            weight, bias = weight.astype(np.float32), arrays[f"{name}/bias"].astype(np.float32)
            if f"{name}/scale" in arrays:
                weight = weight * arrays[f"{name}/scale"][:, None]
        yield weight, bias
        number += 1


def _check_layer(weight: NDArray, bias: NDArray, inputs: Any) -> None:
    """Raises ValueError unless these are numbers of a linear layer with so many inputs; None: any number."""
    fits = weight.ndim == 2 and weight.size and bias.shape == weight.shape[:1] and inputs in (None, weight.shape[1])
    if not fits:
        msg = (
            f"a weight and a bias with shapes {weight.shape}, {bias.shape} are not a layer of {inputs or 'some'} inputs"
        )
        raise ValueError(msg)
    if not np.isfinite(bias).all() or not np.isfinite(weight).all():
        msg = "the weights and biases of a network must be finite numbers"
        raise ValueError(msg)


def _network(layers: Iterator[tuple[NDArray, NDArray]], function: type[nn.Module]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for weight, bias in layers:
        _check_layer(weight, bias, parts[-2].out_features if parts else None)
        layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        layer.weight = nn.Parameter(torch.from_numpy(np.ascontiguousarray(weight)))
        layer.bias = nn.Parameter(torch.from_numpy(bias))
        parts += [layer, function()]
    return nn.Sequential(*parts[:-1])
