"""`surrogate compare` and the log of `surrogate run -v`."""

import logging

import pytest

import surrogate
from surrogate.cli.log import show_log
from surrogate.cli.main import main


def normal(a):
    return -0.5 * a**2


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of a run, and of one that has not converged."""
    root = tmp_path_factory.mktemp("runs")
    run(root / "narrow", 10)
    run(root / "short", 10, max_evaluations=6)
    return root


def run(folder, width, **options):
    prior = {"a": (-width, width)}
    surrogate.infer(normal, prior, seed=1, output=folder, progress=False, n_samples=300, **options)


@pytest.mark.slow
def test_models_are_compared_from_their_folders(runs, tmp_path, capsys):
    """The second with a prior twice as wide."""
    page, wide = tmp_path / "page.html", tmp_path / "wide"
    run(wide, 20)
    assert main(["compare", str(runs / "narrow"), str(wide), "--n-data", "5", "--html", str(page)]) == 0
    out = capsys.readouterr().out
    assert out.index("\nnarrow  ") < out.index("\nwide    ")
    assert "-0.69" in out  # the log of 2: between the models, and for each prior
    assert "BIC" in out
    assert "<table" in page.read_text()


def test_an_unconverged_run_is_refused_unless_asked_for(runs, capsys):
    folders = [str(runs / "narrow"), str(runs / "short")]
    assert main(["compare", *folders]) == 2
    assert "not converged: short" in capsys.readouterr().err
    assert main(["compare", "--anyway", "--names", "A,B", *folders]) == 0
    assert "B has NOT CONVERGED" in capsys.readouterr().out


def test_the_library_is_silent_until_a_log_is_asked_for(capsys):
    logger = logging.getLogger("surrogate")
    before = list(logger.handlers)
    assert any(isinstance(handler, logging.NullHandler) for handler in before)
    try:
        show_log(0)
        assert logger.handlers == before
        show_log(1)
        logging.getLogger("surrogate.inference").info("step 3")
        logging.getLogger("surrogate.inference").debug("call 3")
        shown = capsys.readouterr().err
    finally:
        logger.handlers[:] = before
        logger.setLevel(logging.NOTSET)
    assert "INFO surrogate.inference: step 3" in shown
    assert "call 3" not in shown
