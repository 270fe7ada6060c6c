"""Scout for further modes while the known ones are still being learned."""

from __future__ import annotations

from surrogate.arrays import Array
from surrogate.inference.checks.hidden import hypotheses_of, predicted_depth, worthwhile_point
from surrogate.inference.checks.modes import Modes
from surrogate.inference.phases import Phase
from surrogate.inference.scouts.scout import Place
from surrogate.inference.view import View

__all__ = ["Survey"]


_STEADY = 0.3  # nats by which a batch may move a posterior that is roughly known
_STEADY_ROWS = 2  # number of such batches in succession


class Survey:
    """Proposes a point in search of a further mode once the posterior hardly moves.

    On even steps it is where a mode would explain values that the known modes do not, on odd steps the point that would
    exclude most hypotheses. The same evaluations would follow a claim of convergence. Made earlier, they find a mode
    before many evaluations have gone into the details of lesser ones: two modes with 11 % of the mass had taken 105
    evaluations when the search for the other two began.
    """

    name = "survey"
    phases = frozenset({Phase.LEARN})
    place = Place.EXTRA

    def points(self, view: View) -> Array:
        """One point; none while the posterior moves, or if no point is worth an evaluation."""
        if not _applies(view) or not _is_steady(view):
            return view.nowhere
        if view.state.step % 2 == 0 and len(probes := Modes().look(view).points):
            return probes[:1]
        return _excluding(view)


def _applies(view: View) -> bool:
    """Whether further modes are looked for among all continuous parameters, and no other points are waited for.

    Draws of a surrogate of outputs already cover all points that the errors of the outputs allow. Noisy values come in
    batches that grow with their number, so that there are few iterations before the search that follows a claim.
    """
    setup, state = view.setup, view.state
    elsewhere = setup.knows_width or setup.levels is not None or view.learns_outputs or state.probes is not None
    return not elsewhere and not bool((state.data.noise > 0.0).any())


def _excluding(view: View) -> Array:
    """The point that would exclude most hypotheses about a further mode; none if it is not worth an evaluation."""
    rng, depth = view.rng("survey"), predicted_depth(view)
    return worthwhile_point(*hypotheses_of(view), depth, rng, view.setup.explore, len(view.state.data))


def _is_steady(view: View) -> bool:
    """Whether the last batches have hardly moved the posterior."""
    moved = view.state.column("moved")[-_STEADY_ROWS:]
    return len(moved) == _STEADY_ROWS and bool((moved < _STEADY).all())
