import importlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import getdist
import numpy as np
import pytest
import yaml

from surrogate._version import __version__
from surrogate.cli.main import main
from surrogate.output.outcome import save_outcome
from surrogate.problem.evaluation import Evaluation
from surrogate.storage.folder import RunFolder
from surrogate.storage.journal import Entry
from tests.finished import dataset, result

ROOT = Path(__file__).resolve().parents[2]

MODEL = """
import os, time
def log_likelihood(a, b):
    time.sleep(float(os.environ.get("NAP", "0")))
    return -0.5 * ((a - 0.3) ** 2 / 0.01 + (b - a) ** 2 / 0.04)
"""
RUN = """
likelihood: {name}.py:log_likelihood
parameters: {{a: [-1, 2], b: {{prior: {{dist: norm, loc: 0, scale: 2}}}}}}
options: {{seed: 1, n_samples: 500}}
"""


@pytest.fixture
def run_file(tmp_path, monkeypatch):
    """A file to run, with a likelihood in a module of a name of its own."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    name = f"likelihood_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODEL)
    (tmp_path / "run.yaml").write_text(RUN.format(name=name))
    yield tmp_path / "run.yaml"
    sys.modules.pop(name, None)


@pytest.fixture
def calls(monkeypatch):
    """Calls of the engine, which answers with a finished run at once and leaves one evaluation in the journal."""
    engine = importlib.import_module("surrogate.inference.run")
    made = []

    def infer(log_likelihood, prior, **options):
        made.append({"prior": prior.names, **options})
        journal = RunFolder(options["output"]).journal
        options["output"].mkdir(exist_ok=True)
        journal.append(Entry(0, len(journal.read()), np.zeros(2), Evaluation(-1.0, "ok")))
        return result(converged=options["seed"] != 13, interrupted=options["seed"] == 15)

    def load_result(folder, *, n_samples, target=None):
        made.append({"folder": folder, "n_samples": n_samples})
        return result(n=n_samples)

    monkeypatch.setattr(
        "surrogate.output.report.report_html", lambda *parts, **_: repr(parts)
    )  # pictures take a second
    monkeypatch.setattr(engine, "infer", infer)
    monkeypatch.setattr("surrogate.inference.loading.load_result", load_result)
    return made


def command(*words):
    return main([str(word) for word in words])


def test_run_hands_everything_to_the_engine(run_file, tmp_path, calls, capsys):
    out = tmp_path / "out"
    assert command("run", run_file, "-o", out, "--max-evaluations", 50) == 0
    assert calls[0] == {
        "prior": ("a", "b"),
        "output": out,
        "resume": "auto",
        "progress": True,
        "seed": 1,
        "n_samples": 500,
        "max_evaluations": 50,
    }
    shown = capsys.readouterr()
    assert "log evidence  -6.123 +- 0.071" in shown.out
    assert f"surrogate: starts a run in {out}" in shown.err
    assert (out / "report.html").exists()
    assert yaml.safe_load((out / "config.yaml").read_text())["options"]["max_evaluations"] == 50


def test_run_says_when_it_goes_on(run_file, tmp_path, calls, capsys):
    command("run", run_file, "-o", tmp_path / "out")
    command("run", run_file, "-o", tmp_path / "out")
    assert "continues the run in" in capsys.readouterr().err.splitlines()[-2]
    assert len(calls) == 2


def test_force_starts_anew_and_keeps_the_old_evaluations(run_file, tmp_path, calls, capsys):
    for words in ((), ("--force",)):
        assert command("run", run_file, "-o", tmp_path / "out", *words) == 0
    assert capsys.readouterr().err.count("starts a run") == 2
    assert (tmp_path / "out" / "evaluations.1.jsonl").exists()
    assert (tmp_path / "out" / "config.yaml").exists()
    assert len(RunFolder(tmp_path / "out").journal.read()) == 1


def test_quiet_prints_nothing(run_file, tmp_path, calls, capsys):
    assert command("run", run_file, "-o", tmp_path / "out", "-q") == 0
    assert capsys.readouterr() == ("", "")
    assert calls[0]["progress"] is False


@pytest.mark.parametrize(("seed", "status"), [(13, 3), (15, 130)])
def test_runs_that_end_early_have_a_status_of_their_own(run_file, tmp_path, calls, seed, status):
    assert command("run", run_file, "-o", tmp_path / "out", "--seed", seed) == status
    assert (tmp_path / "out" / "report.html").exists()


class Rank:
    """A rank of a job of which rank 0 said ``problem``."""

    def __init__(self, rank, problem=""):
        self.rank, self.problem = rank, problem

    def broadcast(self, value):
        return value if self.rank == 0 else self.problem


def test_only_rank_0_writes(run_file, tmp_path, calls, monkeypatch, capsys):
    monkeypatch.setattr("surrogate.executors.mpi.ranks", lambda _: Rank(1))
    monkeypatch.setenv("PMI_RANK", "1")
    assert command("run", run_file, "-o", tmp_path / "out") == 0
    assert len(calls) == 1
    assert not (tmp_path / "out" / "config.yaml").exists()
    assert capsys.readouterr() == ("", "")


def test_rank_0_writes(run_file, tmp_path, calls, monkeypatch, capsys):
    monkeypatch.setattr("surrogate.executors.mpi.ranks", lambda _: Rank(0))
    assert command("run", run_file, "-o", tmp_path / "out") == 0
    assert (tmp_path / "out" / "config.yaml").exists()
    assert "log evidence" in capsys.readouterr().out


@pytest.mark.parametrize("rank", [Rank(1, "the folder is in use"), Rank(0)])
def test_what_fails_on_rank_0_ends_all_ranks(run_file, tmp_path, calls, monkeypatch, rank):
    monkeypatch.setattr("surrogate.executors.mpi.ranks", lambda _: rank)
    with RunFolder(tmp_path / "out").create():
        assert command("run", run_file, "-o", tmp_path / "out") == 2
    assert calls == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "nothing.yaml", "-o", "out"], "nothing.yaml: cannot be read"),
        (["status", "nowhere"], "nowhere holds no run"),
        (["sample", "nowhere"], "nowhere holds no run"),
        (["report", "nowhere"], "nowhere holds no run"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert command(*words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("surrogate: error: ")
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [[], ["rnu"], ["run", "x.yaml"], ["sample", "x", "-n", "0"], ["sample", "x", "-n", "1.5"]]
)
def test_wrong_words_are_argparse_errors(words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage: surrogate" in capsys.readouterr().err


def test_errors_of_the_engine_are_one_line_unless_debugging(run_file, tmp_path, monkeypatch, capsys):
    def fails(*_, **__):
        msg = "gave up:\n3 finite values"
        raise ValueError(msg)

    monkeypatch.setattr(importlib.import_module("surrogate.inference.run"), "infer", fails)
    assert command("run", run_file, "-o", tmp_path / "out", "-q") == 2
    assert capsys.readouterr().err == "surrogate: error: gave up: 3 finite values\n"
    with pytest.raises(ValueError, match="gave up"):
        command("--debug", "run", run_file, "-o", tmp_path / "out", "-q")


def test_an_interruption_has_the_status_of_shells(run_file, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("surrogate.inference.run"), "infer", interrupted)
    assert command("run", run_file, "-o", tmp_path / "out", "-q") == 130
    assert "repeat the command to continue" in capsys.readouterr().err


def test_a_folder_in_use_is_refused(run_file, tmp_path, calls, capsys):
    with RunFolder(tmp_path / "out").create():
        assert command("run", run_file, "-o", tmp_path / "out") == 2
    assert "is in use by" in capsys.readouterr().err
    assert calls == []


def test_version_and_help(capsys):
    for words in (["--version"], ["--help"], ["run", "--help"]):
        with pytest.raises(SystemExit) as caught:
            main(words)
        assert caught.value.code == 0
    shown = capsys.readouterr().out
    assert f"surrogate {__version__}\n" in shown
    assert shown.count("3    the run ended before it converged") == 2


@pytest.fixture
def old_run(tmp_path):
    """A folder with a journal and a trace."""
    folder = RunFolder(tmp_path / "old")
    with folder.create():
        data = dataset()
        for i in range(len(data)):
            status = ("ok", "infeasible", "failed")[data.status[i]]
            evaluation = Evaluation(float(data.y[i]), status, seconds=float(data.seconds[i]), reason=data.reasons[i])
            folder.journal.append(Entry(int(data.step[i]), i, data.x[i], evaluation))
    columns = "step,n_evaluations,spread,moved,log_evidence,log_evidence_error"
    folder.trace_path.write_text(f"{columns}\n1.0,10.0,inf,nan,nan,nan\n2.0,30.0,0.13,0.04,-6.1234,0.05\n")
    return folder


def test_status_reads_the_files(old_run, capsys):
    assert command("status", old_run.path) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^evaluations +30 \(1 at -inf, 1 failed\), the last .* ago$", shown, re.M)
    assert re.search(r"^best +log-likelihood -0.232783 at x0 = 0.\d+, x1 = 67.\d+$", shown, re.M)
    assert re.search(r"^iteration +2$", shown, re.M)
    assert re.search(r"^log evidence +-6.123 \+- 0.050  \(of the last iteration, NOT CONVERGED", shown, re.M)
    assert re.search(r"^signals +spread 0.13, moved 0.04$", shown, re.M)
    assert re.search(r"^verdict +initial design in progress$", shown, re.M)


@pytest.mark.parametrize("converged", [True, False])
def test_status_shows_the_evidence_of_the_summary(old_run, capsys, converged):
    run = result(n=20, converged=converged)
    run = replace(run, record=replace(run.record, trace=({"step": 2.0},)))
    save_outcome(run.evidence, run.record, old_run.outcome_path)
    assert command("status", old_run.path) == 0
    line = next(line for line in run.summary().splitlines() if line.startswith("log evidence"))
    assert line.split(maxsplit=2)[2] in capsys.readouterr().out


def test_status_of_a_run_that_has_only_begun(tmp_path, capsys):
    folder = RunFolder(tmp_path / "new")
    with folder.create():
        folder.journal.append(Entry(0, 0, np.zeros(2), Evaluation.failure("no")))
    assert command("status", folder.path) == 0
    assert "1 (1 failed)" in capsys.readouterr().out


def test_status_needs_no_torch(old_run):
    program = (
        "import sys; sys.modules['torch'] = None; from surrogate.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    words = [sys.executable, "-c", program, "status", str(old_run.path)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    assert "verdict" in done.stdout


def test_sample_writes_a_chain(old_run, tmp_path, calls, capsys):
    assert command("sample", old_run.path, "-n", 700, "-o", tmp_path / "there" / "again") == 0
    assert calls == [{"folder": old_run.path, "n_samples": 700}]
    assert len(getdist.loadMCSamples(str(tmp_path / "there" / "again"), no_cache=True).samples) == 700
    assert "700 rows in" in capsys.readouterr().err
    command("sample", old_run.path)
    assert (old_run.path / "samples.txt").exists()
    assert not (old_run.path / "chain.txt").exists()  # which is the run's own, perhaps re-weighted


def test_report_writes_a_page(old_run, tmp_path, calls):
    assert command("report", old_run.path, "-n", 500) == 0
    assert (old_run.path / "report.html").exists()
    assert command("report", old_run.path, "-n", 500, "-o", tmp_path / "page.html") == 0
    assert (tmp_path / "page.html").exists()


def surrogate(*words, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "surrogate", *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_engine_from_the_command_line(run_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("surrogate.output.report.report_html", lambda *_, **__: "")  # pictures take seconds
    out = tmp_path / "out"
    assert command("run", run_file, "-o", out) == 0
    assert "converged" in capsys.readouterr().out
    loaded = getdist.loadMCSamples(str(out / "chain"), no_cache=True)
    mean, sd = loaded.getMeans()[0], np.sqrt(loaded.getVars()[0])
    # exact: the prior is flat in a, and that of b barely tilts it
    assert abs(mean - 0.3) < 5 * 0.1 / np.sqrt(500)
    assert abs(sd / 0.1 - 1) < 5 / np.sqrt(2 * 500)


@pytest.mark.slow
def test_an_interrupted_run_goes_on(run_file, tmp_path, capsys):
    out = tmp_path / "out"
    process = surrogate("run", run_file, "-o", out, NAP="1")
    journal = RunFolder(out).journal
    deadline = time.monotonic() + 600
    while len(journal.read()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 130, errors
    before = len(journal.read())
    assert main(["status", str(out)]) == 0
    assert re.search(r"at a = -?\d", capsys.readouterr().out)
    assert main(["run", str(run_file), "-o", str(out), "-q"]) == 0
    records = journal.read()
    assert len({(record.step, record.index) for record in records}) == len(records) > before
