import io
import os
import pty

import numpy as np
import pytest

from surrogate.output.progress import SIGNALS, Progress, evaluations_left, limits_of_signals, steady, worst_signal
from tests.finished import dataset, trace

LIMITS = {"spread": 0.05, "moved": 0.02}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def falling(values, start=10, step=10):
    return [{"n_evaluations": start + step * i, "spread": value, "moved": 0.0} for i, value in enumerate(values)]


def test_lines_of_a_plain_stream_have_no_control_characters():
    stream = io.StringIO()
    progress = Progress(max_evaluations=200, stream=stream)
    for row in trace(dataset()):
        progress.update(row)
    progress.close("converged: all is well")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("10/200 calls | best -")
    assert "draws disagree 2.5x" in lines[3]
    assert all(len(line) < 80 for line in lines)
    assert lines[-1] == "converged: all is well"
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()


def test_the_line_of_a_terminal_is_rewritten_and_fits():
    stream = Terminal()
    progress = Progress(stream=stream)
    for row in trace(dataset()):
        progress.update(row)
    progress.close("done")
    parts = stream.getvalue().split("\r\x1b[K")
    assert len(parts) == 7
    assert all(len(part) < 80 and "\n" not in part for part in parts[:-1])
    assert parts[-1] == "done\n"


def test_a_real_terminal_is_recognised():
    reader, writer = pty.openpty()
    with os.fdopen(reader, "rb", buffering=0) as out, os.fdopen(writer, "w") as stream:
        Progress(stream=stream).update({"n_evaluations": 3})
        assert out.read(100).startswith(b"\r\x1b[K3 calls")


def test_the_reason_stands_in_for_signals_that_are_not_there_yet():
    stream = io.StringIO()
    row = {"n_evaluations": 6, "best": -19.76, "spread": np.inf, "moved": np.nan, "reason": "searching"}
    Progress(stream=stream).update(row)
    assert stream.getvalue().startswith("6 calls | best -19.76 | searching | 0:00")


def test_odd_rows_are_shown_as_far_as_they_go():
    stream = io.StringIO()
    progress = Progress(stream=stream)
    for row in ({}, {"best": -np.inf}, {"n_evaluations": "many"}):
        progress.update(row)
    assert [line.split(" | ")[0] for line in stream.getvalue().splitlines()] == ["0 calls"] * 3


def test_a_broken_stream_ends_the_display_and_nothing_else():
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.update({"n_evaluations": 1})
    written = stream.getvalue()
    stream.close()
    progress.update({"n_evaluations": 2})
    progress.close("done")
    assert stream.closed
    assert written.startswith("1 calls")


def test_nothing_is_written_before_the_first_row_or_without_a_message():
    stream = io.StringIO()
    Progress(stream=stream).close()
    assert stream.getvalue() == ""


def test_each_call_of_the_design_is_a_line_with_the_first_failure_in_full():
    stream = io.StringIO()
    progress = Progress(max_evaluations=200, stream=stream, design=8, workers=2)
    reason = "RuntimeError: no convergence after 1000 iterations of a solver whose name is long (in f, model.py line 3)"
    for count, (value, why) in enumerate([(-3.5, ""), (np.nan, reason), (-np.inf, ""), (np.nan, "other")], start=1):
        progress.called(count, value, 60.0, why)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "design 1/8 | value -3.5 | 60 s a call | 4 min left"  # 7 calls by two
    assert " ".join(line.strip() for line in lines[1:3]) == f"call 2 failed: {reason}"
    assert lines[3].startswith("design 2/8 | failed | best -3.5 | 1 failed")
    assert lines[4].startswith("design 3/8 | impossible")
    assert lines[5].startswith("design 4/8 | failed | best -3.5 | 2 failed")
    assert all(len(line) < 80 for line in lines)


def test_slow_calls_are_lines_between_batches_and_fast_ones_are_not():
    for seconds, expected in ((60.0, 2), (0.1, 1)):
        stream = io.StringIO()
        progress = Progress(max_evaluations=200, stream=stream)
        progress.update({"n_evaluations": 10, "best": -1.0, "spread": 0.1})
        progress.called(11, -2.0, seconds)
        lines = stream.getvalue().splitlines()
        assert len(lines) == expected
        assert lines[-1].startswith("11/200 calls | last -2" if expected == 2 else "10/200 calls")


def test_a_notebook_gets_one_line_without_escape_sequences():
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    progress = Progress(stream=stream)
    progress.update({"n_evaluations": 10, "best": -1.0})
    progress.update({"n_evaluations": 12, "best": -1.0})
    progress.close("done")
    assert "\x1b" not in stream.getvalue()
    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().rstrip("\n").split("\r")[-1] == "done"


def test_an_estimate_of_what_is_left_is_steady():
    assert steady([40, 400, 42]) == 40
    assert steady([12]) == 12
    assert steady([40, None, None]) is None
    assert steady([103, 107, 108], most=50) == 50
    assert steady([0, 0, 3]) == 0


def test_the_worst_signal_is_named():
    limits = {"spread": 0.05, "moved": 0.02}
    assert worst_signal({"spread": 0.1, "moved": 0.2}, limits) == "still moving 10x"
    assert worst_signal({"spread": 0.05, "moved": 0.0}, limits) == "all signals below their limits"
    assert worst_signal({"spread": np.inf, "moved": np.nan}, limits) == "draws disagree beyond measure"
    assert worst_signal({}, limits) == ""
    assert set(SIGNALS) == set(limits_of_signals())


@pytest.mark.parametrize(
    ("values", "left"),
    [
        ([0.8, 0.4, 0.2, 0.1], 10),  # halves in 10 evaluations, and is twice its limit
        ([0.8, 0.4, 0.2, 0.1, 0.05], 0),
        ([0.8, 0.4], None),
        ([0.1, 0.2, 0.4], None),
        ([0.2, 0.2, 0.2], None),
        ([np.inf, np.nan, 0.8, 0.4, 0.2], 20),
        ([1e9, 50.0, 0.8, 0.4, 0.2], 20),  # what is far off is not extrapolated from
        ([0.8, 0.4, 0.2, 5.1], None),
        ([], None),
    ],
)
def test_evaluations_left(values, left):
    assert evaluations_left(falling(values), LIMITS) == left


def test_old_rows_do_not_count():
    rows = falling([1e9] * 10 + [6.4, 3.2, 1.6, 0.8, 0.4, 0.2])
    assert evaluations_left(rows, LIMITS) == 20


def test_the_limits_are_columns_of_the_trace():
    from surrogate.inference.checks import CHECKS
    from surrogate.inference.trace import columns_of

    assert set(limits_of_signals()) <= set(columns_of(CHECKS))
