import io
import os
import pty

import numpy as np
import pytest

from surrogate.output.progress import Progress, evaluations_left, limits_of_signals
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
    assert lines[0].startswith("10 of at most 200 evaluations | best -")
    assert "spread 0.22/0.05" in lines[2]
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
        assert out.read(100).startswith(b"\r\x1b[K3 evaluations")


def test_the_reason_stands_in_for_signals_that_are_not_there_yet():
    stream = io.StringIO()
    row = {"n_evaluations": 6, "best": -19.76, "spread": np.inf, "moved": np.nan, "reason": "searching"}
    Progress(stream=stream).update(row)
    assert stream.getvalue().startswith("6 evaluations | best -19.76 | searching | 0:00")


def test_odd_rows_are_shown_as_far_as_they_go():
    stream = io.StringIO()
    progress = Progress(stream=stream)
    for row in ({}, {"best": -np.inf}, {"n_evaluations": "many"}):
        progress.update(row)
    assert [line.split(" | ")[0] for line in stream.getvalue().splitlines()] == ["? evaluations"] * 3


def test_a_broken_stream_ends_the_display_and_nothing_else():
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.update({"n_evaluations": 1})
    written = stream.getvalue()
    stream.close()
    progress.update({"n_evaluations": 2})
    progress.close("done")
    assert stream.closed
    assert written.startswith("1 evaluations")


def test_nothing_is_written_before_the_first_row_or_without_a_message():
    stream = io.StringIO()
    Progress(stream=stream).close()
    assert stream.getvalue() == ""


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
