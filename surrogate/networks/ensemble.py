"""Several networks of one architecture, stacked as tensors and evaluated together."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

__all__ = ["Stack"]


@dataclass(frozen=True, eq=False)
class Stack:
    """M networks of one architecture.

    Attributes:
        parameters: By name as in the network's ``state_dict``, each with shape (M, ...); leaves of the autograd graph.
        skeleton: The architecture as a module without values (on the meta device).
    """

    parameters: dict[str, Tensor]
    skeleton: nn.Sequential

    @classmethod
    def of(cls, modules: Sequence[nn.Sequential]) -> Stack:
        """A stack with copies of the networks' parameters."""
        parameters, _ = stack_module_state([*modules])
        return cls(parameters, copy.deepcopy(modules[0]).to("meta"))

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))

    def __call__(self, x: Tensor) -> Tensor:
        """Output of each network, with shape (M, n) or (M, n, c), at its own rows, with shape (M, n, d)."""
        if len(self) == 1:  # for a single network a batched product is slower by a seventh
            only = {name: value.squeeze(0) for name, value in self.parameters.items()}
            return functional_call(self.skeleton, only, (x[0],)).squeeze(-1)[None]
        return vmap(self._single)(self.parameters, x).squeeze(-1)

    def _single(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(self.skeleton, parameters, (x,))

    def modules(self) -> tuple[nn.Sequential, ...]:
        """The networks as separate modules, with copies of the parameters."""
        return tuple(self._module(member) for member in range(len(self)))

    def _module(self, member: int) -> nn.Sequential:
        some = next(iter(self.parameters.values()))
        module = copy.deepcopy(self.skeleton).to_empty(device=some.device).to(some.dtype)
        with torch.no_grad():
            for name, value in module.named_parameters():
                value.copy_(self.parameters[name][member])
        return module
