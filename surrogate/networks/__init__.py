"""Neural surrogates: architecture, training, ensembles, posteriors, a second-order optimiser and structured layers.

Names are loaded when they are first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surrogate.networks.butterfly import BlockButterflyLinear as BlockButterflyLinear
    from surrogate.networks.butterfly import with_butterfly_layers as with_butterfly_layers
    from surrogate.networks.export import export_network as export_network
    from surrogate.networks.export import load_network as load_network
    from surrogate.networks.export import save_network as save_network
    from surrogate.networks.recipes import Recipe as Recipe
    from surrogate.networks.repriorised import RepriorisedBNN as RepriorisedBNN
    from surrogate.networks.repriorised import WideNetwork as WideNetwork

# The module of each public name; the block above tells type checkers the same.
_HOMES = {
    "BlockButterflyLinear": "surrogate.networks.butterfly",
    "Recipe": "surrogate.networks.recipes",
    "RepriorisedBNN": "surrogate.networks.repriorised",
    "WideNetwork": "surrogate.networks.repriorised",
    "export_network": "surrogate.networks.export",
    "load_network": "surrogate.networks.export",
    "save_network": "surrogate.networks.export",
    "with_butterfly_layers": "surrogate.networks.butterfly",
}

__all__ = [*_HOMES]  # noqa: PLE0604  # strings, all of them


if not TYPE_CHECKING:  # type checkers would assume that any name exists

    def __getattr__(name: str) -> Any:
        """A public name, loaded on its first use."""
        if name not in _HOMES:
            msg = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(msg)
        return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """All names, including those that have not been loaded yet."""
    return sorted({*globals(), *__all__})
