"""`surrogate watch` and `surrogate report --live`: what they show, and that they touch nothing."""

import io
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest

import surrogate
from surrogate.cli.live import LivePage, make_server
from surrogate.cli.main import main
from surrogate.cli.watch import RunFiles, follow, lines_of
from surrogate.problem.evaluation import Evaluation
from surrogate.storage.folder import RunFolder
from surrogate.storage.journal import Entry


def normal(a, b):
    return -0.5 * (a**2 + (b - a) ** 2)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run, which no test may change."""
    path = tmp_path_factory.mktemp("runs") / "normal"
    surrogate.infer(normal, {"a": (-5, 5), "b": (-5, 5)}, seed=1, output=path, progress=False, n_samples=300)
    return path


def journal_of(path, evaluations):
    folder = RunFolder(path)
    path.mkdir(parents=True, exist_ok=True)
    for i, evaluation in enumerate(evaluations, start=len(folder.journal.read())):
        folder.journal.append(Entry(0, i, np.array([0.1, 0.2 * i]), evaluation))
    return folder


def good(y=-1.5, seconds=12.0):
    return Evaluation(y, "ok", seconds=seconds, worker="host:1")


def contents(path):
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.iterdir()}


def test_a_finished_run_is_shown_and_not_touched(run, capsys):
    before = contents(run)
    assert main(["watch", str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("run       ")
    assert lines[1] == "phase     over"
    assert lines[2].startswith("calls     ")
    assert any(line.startswith("best      -") and " a = " in line for line in lines)
    assert any(line.endswith("ok") for line in lines), "bars of the signals"
    assert any(line.startswith("evidence") for line in lines)
    assert all(len(line) < 80 for line in lines)
    assert contents(run) == before


def test_a_design_is_followed_line_by_line(tmp_path):
    folder = journal_of(tmp_path / "run", [good(-3.0), Evaluation.failure("KeyError: 'H0'", seconds=1.0)])
    files = RunFiles(folder).again()
    lines = lines_of(files, now=folder.journal.path.stat().st_mtime + 30)
    assert lines[1] == "phase     initial design"
    assert lines[2] == "calls     2 calls (1 failed), the last 30 s ago"
    assert "failed    KeyError: 'H0'" in lines
    journal_of(tmp_path / "run", [good(-0.5)])
    after = files.again()
    assert len(after.entries) == 3
    assert after.offset > files.offset
    assert any(line.startswith("best      -0.5 at x0 = 0.1") for line in lines_of(after, 0.0))
    assert after.again().entries == after.entries


def test_a_journal_that_begins_anew_is_read_anew(tmp_path):
    folder = journal_of(tmp_path / "run", [good()] * 5)
    files = RunFiles(folder).again()
    folder.journal.path.unlink()
    journal_of(tmp_path / "run", [good()])
    assert len(files.again().entries) == 1


def test_a_line_that_is_being_written_waits(tmp_path):
    folder = journal_of(tmp_path / "run", [good()])
    with folder.journal.path.open("ab") as file:
        file.write(b'{"step": 0, "ind')
    files = RunFiles(folder).again()
    assert len(files.entries) == 1
    assert len(files.again().entries) == 1


def test_a_stream_gets_lines_only_when_something_has_changed(tmp_path):
    folder, stream = RunFolder(tmp_path / "run"), io.StringIO()
    steps = follow(folder, stream)
    next(steps)
    assert stream.getvalue().endswith("no run yet\n")
    next(steps)
    assert stream.getvalue().count("\n") == 1
    journal_of(tmp_path / "run", [good()])
    next(steps)
    assert "1 calls" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_the_lock_of_a_run_is_not_taken(tmp_path):
    with RunFolder(tmp_path / "run").create() as folder:
        journal_of(tmp_path / "run", [good()])
        next(follow(RunFolder(folder.path), io.StringIO()))
        journal_of(tmp_path / "run", [good()])  # the run goes on
        assert folder.journal.read()


def test_reasons_cannot_control_the_terminal(tmp_path):
    folder = journal_of(tmp_path / "run", [Evaluation.failure("\x1b[2J\x07bad")])
    assert all(line.isprintable() for line in lines_of(RunFiles(folder).again(), 0.0))


def test_misuse_is_one_line(tmp_path, capsys):
    assert main(["watch", "--once", str(tmp_path)]) == 2
    assert "holds no run" in capsys.readouterr().err
    assert main(["watch", "--interval", "0", str(tmp_path)]) == 2
    assert main(["report", "--live", "--interval", "0", str(tmp_path)]) == 2


@pytest.fixture
def server(run):
    """A server of the page of the finished run, and its address."""
    found, address = make_server(LivePage(RunFolder(run), n_samples=300).html)
    thread = threading.Thread(target=found.serve_forever, daemon=True)
    thread.start()
    yield address
    found.shutdown()
    found.server_close()
    thread.join()


def answer(address, **headers):
    return urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=600)


@pytest.mark.slow
def test_the_page_is_served_to_who_knows_the_token(server, run):
    before = contents(run)
    with answer(server) as found:
        text = found.read().decode()
        assert found.headers["Cache-Control"] == "no-store"
        assert "default-src 'none'" in found.headers["Content-Security-Policy"]
    assert "Posterior of a, b" in text
    assert "http-equiv" not in text, "a run that is over does not change"
    assert contents(run) == before


@pytest.mark.parametrize(
    ("change", "headers", "status"),
    [
        (lambda a: a[:-1], {}, 403),
        (lambda a: a.partition("?")[0], {}, 403),
        (lambda a: a.replace("/?", "/evaluations.jsonl?"), {}, 404),
        (lambda a: a.replace("/?", "/../?"), {}, 404),
        (lambda a: a, {"Host": "evil.example"}, 403),
    ],
)
def test_nobody_else_gets_anything(server, change, headers, status):
    with pytest.raises(urllib.error.HTTPError) as error:
        answer(change(server), **headers)
    assert error.value.code == status
    assert "Posterior" not in error.value.read().decode()
    error.value.close()


def test_a_run_without_a_surrogate_is_a_page_that_is_asked_for_again(tmp_path):
    folder = journal_of(tmp_path / "run", [good(), Evaluation.failure("<script>alert(1)</script>")])
    text = LivePage(folder, interval=5).html()
    assert '<meta http-equiv="refresh" content="5">' in text
    assert "2 calls (1 failed)" in text
    assert "<script>" not in text
