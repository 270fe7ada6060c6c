"""Files of a run: exact round trips, and what is left when writing them is cut short."""

import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from surrogate.problem.evaluation import Evaluation
from surrogate.storage import files, folder
from surrogate.storage.arrays import FORMAT, load_arrays, save_arrays
from surrogate.storage.files import replacing
from surrogate.storage.folder import RunFolder
from surrogate.storage.journal import Entry, Journal

ROOT = Path(__file__).resolve().parents[2]

RECORDS = [
    Entry(0, 0, np.array([0.1, 1 / 3]), Evaluation(-1.5, "ok", {"s": 0.1}, 0.25, "", 2.0, "host:1")),
    Entry(0, 1, np.array([5e-324, 1.7976931348623157e308]), Evaluation(-math.inf, "infeasible", seconds=0.1)),
    Entry(1, 0, np.array([-0.0, np.pi]), Evaluation.failure("ValueError: naïve\n “quotes” \U0001f600\u2028")),
    Entry(1, 1, np.array([2.0, 3.0]), Evaluation(-0.0, "ok", {"t": math.nan, "u": math.inf, "v": -math.inf})),
    Entry(2, 0, np.array([2.0, 3.0]), Evaluation(np.nextafter(1, 2), "ok", {"t": 1e-310})),
    Entry(2, 1, np.array([]), Evaluation(1.0, "ok")),
]


def same(one: Entry, other: Entry) -> bool:
    first, second = one.evaluation, other.evaluation
    return (
        (one.step, one.index, first.status, first.reason, first.worker)
        == (other.step, other.index, second.status, second.reason, second.worker)
        and one.x.tobytes() == other.x.tobytes()
        and list(first.derived) == list(second.derived)
        and bits(first.y, first.noise, first.seconds, *first.derived.values())
        == bits(second.y, second.noise, second.seconds, *second.derived.values())
    )


def bits(*values: float) -> bytes:
    return np.array(values, dtype=np.float64).tobytes()


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "evaluations.jsonl")
    for record in RECORDS:
        journal.append(record)
    return journal


class TestJournal:
    def test_round_trip_is_exact(self, journal):
        records = journal.read()
        assert len(records) == len(RECORDS)
        assert all(same(one, other) for one, other in zip(records, RECORDS, strict=True))

    def test_without_a_file(self, tmp_path):
        assert Journal(tmp_path / "none.jsonl").read() == []

    def test_lines_are_plain_json(self, journal):
        def refuse(constant):
            raise AssertionError(constant)

        lines = journal.path.read_text(encoding="ascii").splitlines()
        entries = [json.loads(line, parse_constant=refuse) for line in lines]
        assert list(entries[0]) == [
            *("step", "index", "x", "y", "status", "derived", "noise", "seconds", "worker", "reason")
        ]
        assert [entry["y"] for entry in entries] == [-1.5, None, None, 0.0, 1.0000000000000002, 1.0]
        assert entries[3]["derived"] == {"t": "nan", "u": "inf", "v": "-inf"}

    def test_numpy_numbers_are_taken(self, tmp_path):
        journal = Journal(tmp_path / "evaluations.jsonl")
        journal.append(Entry(np.int64(1), np.int64(2), np.float32([0.5]), Evaluation(np.float64(1.0), "ok")))
        assert same(journal.read()[0], Entry(1, 2, np.array([0.5]), Evaluation(1.0, "ok")))

    def test_a_line_cut_anywhere_loses_itself_alone(self, journal):
        whole = journal.path.read_bytes()
        start = whole[:-1].rfind(b"\n") + 1
        for end in range(start, len(whole)):
            journal.path.write_bytes(whole[:end])
            assert len(journal.read()) == len(RECORDS) - 1

    @pytest.mark.parametrize("kept", [1, 40, -1])
    def test_the_next_line_replaces_a_partial_one(self, journal, kept):
        whole = journal.path.read_bytes()
        lines = whole.splitlines(keepends=True)
        journal.path.write_bytes(b"".join(lines[:-1]) + lines[-1][:kept])
        journal.append(RECORDS[-1])
        assert journal.path.read_bytes() == whole

    def test_a_partial_first_line(self, tmp_path):
        journal = Journal(tmp_path / "evaluations.jsonl")
        journal.path.write_bytes(b'{"step": 0, "ind')
        assert journal.read() == []
        journal.append(RECORDS[0])
        assert len(journal.read()) == 1

    @pytest.mark.parametrize(
        ("damage", "reason"),
        [
            (b"\n", "JSONDecodeError"),
            (b"\0\0\0\0\n", "JSONDecodeError"),
            (b'{"step": 1, "ind\n', "JSONDecodeError"),
            (b'{"step\xff\n', "UnicodeDecodeError"),
            (b"{}\n", "KeyError: 'status'"),
            (b"[1, 2]\n", "TypeError"),
            (b"3\n", "TypeError"),
            (b'{"step": 0, "index": 0, "x": [1.0], "y": null, "status": "ok"}\n', "ValueError: y must"),
            (b'{"step": 0, "index": 0, "x": [1.0], "y": 2.0, "status": "fine"}\n', "KeyError: 'fine'"),
        ],
    )
    def test_damage_elsewhere_names_the_line(self, journal, damage, reason):
        lines = journal.path.read_bytes().splitlines(keepends=True)
        lines[2] = damage
        journal.path.write_bytes(b"".join(lines))
        with pytest.raises(
            ValueError, match=rf"line 3 of .*evaluations\.jsonl is damaged \({reason}.*delete this line"
        ):
            journal.read()

    def test_a_whole_last_line_that_is_damaged_is_not_a_partial_one(self, journal):
        with open(journal.path, "ab") as file:
            file.write(b"garbage\n")
        with pytest.raises(ValueError, match=f"line {len(RECORDS) + 1} of"):
            journal.read()

    def test_is_synced_before_it_returns(self, tmp_path, monkeypatch):
        journal, sizes = Journal(tmp_path / "evaluations.jsonl"), []
        fsync = os.fsync
        monkeypatch.setattr(os, "fsync", lambda fd: (fsync(fd), sizes.append(os.fstat(fd).st_size)))
        journal.append(RECORDS[0])
        assert sizes[0] == journal.path.stat().st_size
        assert len(sizes) == 2  # the folder too, as the file is new
        journal.append(RECORDS[1])
        assert sizes[2:] == [journal.path.stat().st_size]

    def test_a_failing_write_leaves_the_former_lines(self, journal, monkeypatch):
        monkeypatch.setattr(files, "sync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            journal.append(RECORDS[0])
        monkeypatch.undo()
        assert len(journal.read()) >= len(RECORDS)

    def test_killed_at_any_moment(self, tmp_path):
        # A child appends as fast as it can until it is killed; what it said was written must be there.
        journal = Journal(tmp_path / "evaluations.jsonl")
        code = (
            "import sys; from tests.storage.test_folder import *\n"
            "for i in range(10**6):\n"
            "    Journal(Path(sys.argv[1])).append(Entry(0, i, RECORDS[0].x, RECORDS[0].evaluation))\n"
            "    print(i, flush=True)\n"
        )
        command = [sys.executable, "-c", code, str(journal.path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
            for _ in range(20):
                child.stdout.readline()
            child.kill()
            promised = 20 + len(child.stdout.read().splitlines())
        indices = [record.index for record in journal.read()]
        assert indices == list(range(len(indices)))
        assert len(indices) >= promised - 1  # the last of these lines may be cut itself
        journal.append(RECORDS[0])
        assert len(journal.read()) == len(indices) + 1


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


ARRAYS = {
    "floats": np.array([0.1, -0.0, np.nan, np.inf, 5e-324]),
    "single": np.array([0.1], dtype=np.float32),
    "matrix": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "empty": np.empty((0, 4)),
    "scalar": np.array(3),
    "codes": np.array([0, 1, 255], dtype=np.uint8),
    "large": np.array([2**63], dtype=np.uint64),
    "mask": np.array([True, False]),
    "words": np.array(["", "naïve \U0001f600"]),
    "no words": np.array([], dtype=np.str_),
    "big endian": np.array([1.5], dtype=">f8"),
    "group/member": np.zeros(2),
    "file": np.zeros(1),
    "allow_pickle": np.zeros(1),
}


class TestArrays:
    def test_round_trip_is_exact(self, tmp_path):
        save_arrays(tmp_path / "state.npz", ARRAYS)
        loaded = load_arrays(tmp_path / "state.npz")
        assert list(loaded) == list(ARRAYS)
        for name, array in ARRAYS.items():
            assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
            assert loaded[name].tobytes() == array.tobytes()

    def test_nothing_but_the_file_is_left(self, tmp_path):
        save_arrays(tmp_path / "state.npz", ARRAYS)
        save_arrays(tmp_path / "state.npz", {})
        assert os.listdir(tmp_path) == ["state.npz"]
        assert load_arrays(tmp_path / "state.npz") == {}

    def test_numpy_reads_it(self, tmp_path):
        save_arrays(tmp_path / "state.npz", {"x": np.arange(3)})
        with np.load(tmp_path / "state.npz", allow_pickle=False) as archive:
            np.testing.assert_array_equal(archive["x"], [0, 1, 2])
            assert archive["format"] == FORMAT

    def test_same_arrays_same_bytes(self, tmp_path):
        save_arrays(tmp_path / "one.npz", ARRAYS)
        save_arrays(tmp_path / "two.npz", {name: array.copy(order="K") for name, array in ARRAYS.items()})
        assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()

    @pytest.mark.parametrize("function", ["os.replace", "os.fsync", "np.lib.format.write_array"])
    @pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()], ids=repr)
    def test_a_failing_write_leaves_the_former_file(self, tmp_path, monkeypatch, function, error):
        path = tmp_path / "state.npz"
        save_arrays(path, {"x": np.arange(3)})
        before = path.read_bytes()

        def fail(*args, **kwargs):
            raise error

        module, _, name = function.rpartition(".")
        monkeypatch.setattr({"os": os, "np.lib.format": np.lib.format}[module], name, fail)
        with pytest.raises(type(error)):
            save_arrays(path, {"x": np.arange(4)})
        monkeypatch.undo()
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["state.npz"]

    def test_a_full_disk_in_the_middle(self, tmp_path):
        path = tmp_path / "state.npz"
        save_arrays(path, {"x": np.arange(3)})
        command = "import sys; from tests.storage.test_folder import *; write_on_a_full_disk(Path(sys.argv[1]))"
        subprocess.run([sys.executable, "-c", command, str(path)], cwd=ROOT, check=True, timeout=600)
        np.testing.assert_array_equal(load_arrays(path)["x"], [0, 1, 2])
        assert os.listdir(tmp_path) == ["state.npz"]

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"x": np.array([None])}, "only numbers and fixed-width text can be saved, got objects in: x"),
            ({"x": np.zeros(1), "y": [1, "a", object()]}, "got objects in: y"),
            ({"format": np.array(1)}, "no array may be called 'format'"),
        ],
    )
    def test_what_cannot_be_saved(self, tmp_path, arrays, message):
        with pytest.raises(ValueError, match=message):
            save_arrays(tmp_path / "state.npz", arrays)
        assert os.listdir(tmp_path) == []

    def test_without_a_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            load_arrays(tmp_path / "state.npz")

    @pytest.mark.parametrize("number", [np.array(FORMAT + 1), np.array(0), np.array([FORMAT, FORMAT])])
    def test_another_format(self, tmp_path, number):
        with open(tmp_path / "state.npz", "wb") as file:
            np.savez(file, x=np.zeros(1), format=number)
        with pytest.raises(ValueError, match=r"state\.npz has format .* reads 1\. Use the version that wrote it"):
            load_arrays(tmp_path / "state.npz")

    def test_no_format(self, tmp_path):
        np.savez(tmp_path / "state.npz", x=np.zeros(1))
        with pytest.raises(ValueError, match=r"state\.npz has format \(none\)"):
            load_arrays(tmp_path / "state.npz")

    def test_pickles_are_not_read(self, tmp_path):
        np.savez(tmp_path / "state.npz", x=np.array([Path("a")]), format=np.array(FORMAT))
        with pytest.raises(ValueError, match=r"cannot be read \(ValueError: Object arrays cannot be loaded"):
            load_arrays(tmp_path / "state.npz")

    @pytest.mark.parametrize("size", [0, 1, 100, 0.5, 0.99, -1])
    def test_cut_short(self, tmp_path, size):
        path = tmp_path / "state.npz"
        save_arrays(path, ARRAYS)
        content = path.read_bytes()
        path.write_bytes(content[: int(size * len(content)) if isinstance(size, float) else size])
        with pytest.raises(ValueError, match=r"state\.npz cannot be read .* are not lost"):
            load_arrays(path)

    def test_a_flipped_bit_is_found(self, tmp_path):
        path = tmp_path / "state.npz"
        save_arrays(path, {"x": np.zeros(100)})
        content = bytearray(path.read_bytes())
        with zipfile.ZipFile(path) as archive:
            start = archive.getinfo("x.npy").header_offset
        content[start + 400] ^= 1
        path.write_bytes(content)
        with pytest.raises(ValueError, match="BadZipFile: Bad CRC-32"):
            load_arrays(path)

    def test_a_folder_in_its_place(self, tmp_path):
        (tmp_path / "state.npz").mkdir()
        with pytest.raises(ValueError, match="cannot be read"):
            load_arrays(tmp_path / "state.npz")

    def test_text_is_replaced_too(self, tmp_path):
        path = tmp_path / "config.yaml"
        path.write_text("old")
        with pytest.raises(TypeError), replacing(path) as file:
            file.write("text")
        assert path.read_text() == "old"
        with replacing(path) as file:
            file.write(b"new")
            assert path.read_text() == "old"
        assert path.read_text() == "new"


def write_on_a_full_disk(path: Path) -> None:
    """Saves more than the process may write to one file: the system fails in the middle of it."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    with pytest.raises(OSError, match="File too large"):
        save_arrays(path, {"x": np.zeros(10_000)})


class TestRunFolder:
    def test_names_of_files(self, tmp_path):
        folder = RunFolder(tmp_path)
        paths = [folder.journal.path, folder.state_path, folder.config_path, folder.trace_path, folder.report_path]
        names = ["evaluations.jsonl", "state.npz", "config.yaml", "trace.csv", "report.html", "chain"]
        assert [path.name for path in (*paths, folder.chain_root)] == names
        assert {path.parent for path in paths} == {tmp_path}

    def test_nothing_is_made_before_create(self, tmp_path):
        folder = RunFolder(str(tmp_path / "run"))
        assert not folder.holds_run
        assert folder.journal.read() == []
        assert os.listdir(tmp_path) == []

    def test_create_makes_parents_and_may_be_repeated(self, tmp_path):
        for _ in range(2):
            with RunFolder(tmp_path / "a" / "b").create() as folder:
                assert folder.path.is_dir()
                assert not folder.holds_run
        assert os.listdir(tmp_path / "a" / "b") == [".lock"]

    def test_a_former_run_is_kept(self, tmp_path):
        with RunFolder(tmp_path).create() as folder:
            folder.journal.append(RECORDS[0])
        with RunFolder(tmp_path).create() as folder:
            assert folder.holds_run
            assert len(folder.journal.read()) == 1

    def test_force_starts_anew_but_keeps_the_evaluations(self, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        for number in (1, 2):
            with RunFolder(tmp_path).create() as folder:
                folder.journal.append(RECORDS[number])
                save_arrays(folder.state_path, {})
                for name in ("config.yaml", "trace.csv", "report.html", "chain.paramnames"):
                    (tmp_path / name).write_text("old")
            with RunFolder(tmp_path).create(force=True) as folder:
                assert not folder.holds_run
            kept = Journal(tmp_path / f"evaluations.{number}.jsonl").read()
            assert same(kept[0], RECORDS[number])
        assert sorted(os.listdir(tmp_path)) == [".lock", "evaluations.1.jsonl", "evaluations.2.jsonl", "mine.txt"]

    def test_leftovers_of_killed_writes_are_removed(self, tmp_path):
        (tmp_path / ".state.npz.123.tmp").write_bytes(b"half")
        RunFolder(tmp_path).create().close()
        assert os.listdir(tmp_path) == [".lock"]

    @pytest.mark.parametrize("below", ["file", "file/x", "file/x/y"])
    def test_a_file_in_the_way(self, tmp_path, below):
        (tmp_path / "file").write_text("")
        with pytest.raises(ValueError, match=r"output folder .*file.* cannot be written to .* Choose another one"):
            RunFolder(tmp_path / below).create()

    @pytest.mark.skipif(not Path("/proc/self").exists(), reason="no file system here that is read-only for everybody")
    def test_a_read_only_file_system(self):
        with pytest.raises(ValueError, match="output folder /proc/run cannot be written to"):
            RunFolder("/proc/run").create()
        with pytest.raises(ValueError, match="output folder /proc/self/fdinfo cannot be written to"):
            RunFolder("/proc/self/fdinfo").create()

    def test_a_full_disk(self, tmp_path, monkeypatch):
        monkeypatch.setattr(folder, "sync", full_disk)
        with pytest.raises(ValueError, match="No space left"):
            RunFolder(tmp_path).create()

    @pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
    def test_no_permission(self, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(ValueError, match="Permission denied"):
            RunFolder(tmp_path).create()
        tmp_path.chmod(0o700)


HOLDER = """
import sys, time
from surrogate.storage.folder import RunFolder
folder = RunFolder(sys.argv[1]).create()
print("locked", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that is running in the folder."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as child:
        assert child.stdout.readline() == "locked\n"
        yield child
        child.kill()


class TestLock:
    def test_another_process_is_named(self, tmp_path, holder):
        with pytest.raises(
            RuntimeError, match=rf"is in use by process {holder.pid} on \S+\. Wait for that process, end it"
        ):
            RunFolder(tmp_path).create()

    def test_a_refused_create_touches_nothing(self, tmp_path, holder):
        (tmp_path / "state.npz").write_text("theirs")
        (tmp_path / ".state.npz.5.tmp").write_text("being written")
        with pytest.raises(RuntimeError, match="in use"):
            RunFolder(tmp_path).create(force=True)
        assert (tmp_path / "state.npz").read_text() == "theirs"
        assert (tmp_path / ".state.npz.5.tmp").exists()
        with pytest.raises(RuntimeError, match=f"process {holder.pid} on"):
            RunFolder(tmp_path).create()

    def test_reading_needs_no_lock(self, tmp_path, holder):
        Journal(tmp_path / "evaluations.jsonl").append(RECORDS[0])
        assert len(RunFolder(tmp_path).journal.read()) == 1

    @pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
    def test_death_gives_it_back(self, tmp_path, holder, end):
        holder.send_signal(end)
        holder.wait(300)
        with RunFolder(tmp_path).create() as folder:
            assert str(os.getpid()) in (folder.path / ".lock").read_text()

    def test_the_same_process_twice(self, tmp_path):
        with RunFolder(tmp_path).create(), pytest.raises(RuntimeError, match=f"in use by process {os.getpid()} on"):
            RunFolder(tmp_path).create()
        RunFolder(tmp_path).create().close()

    def test_closing_twice_does_no_harm(self, tmp_path):
        folder = RunFolder(tmp_path).create()
        folder.close()
        folder.close()
        with RunFolder(tmp_path).create() as again:  # and so the lock is free
            assert again.path == tmp_path

    def test_leaving_by_an_exception_gives_it_back(self, tmp_path):
        with pytest.raises(KeyError), RunFolder(tmp_path).create():
            raise KeyError
        RunFolder(tmp_path).create().close()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
    def test_forked_children_do_not_hold_it(self, tmp_path):
        folder = RunFolder(tmp_path).create()
        child = os.fork()
        if child == 0:
            time.sleep(600)
            os._exit(0)
        try:
            with pytest.raises(RuntimeError, match="in use"):
                RunFolder(tmp_path).create()
            folder.close()
            RunFolder(tmp_path).create().close()
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def test_a_file_system_without_locks_is_worth_a_warning(self, tmp_path, monkeypatch):
        fcntl = pytest.importorskip("fcntl")

        def unsupported(*_):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(fcntl, "flock", unsupported)
        with pytest.warns(RuntimeWarning, match=r"no lock in .*No locks available.*no second process uses the folder"):
            RunFolder(tmp_path).create().close()


class TestForeign:
    """Nothing but the files of runs is replaced, emptied or removed."""

    @pytest.fixture
    def foreign(self, tmp_path):
        for name in ("chain.py", "samples.csv", ".chain.txt.tmp", ".notes.1234.tmp", "paper.tex"):
            (tmp_path / name).write_text(f"contents of {name}")
        return tmp_path

    def contents(self, folder):
        return {path.name: path.read_text() for path in folder.iterdir() if path.name not in (".lock", ".surrogate")}

    def test_a_folder_with_other_files_is_refused(self, foreign):
        before = self.contents(foreign)
        with pytest.raises(
            ValueError, match=r"holds files that do not belong to a run \(chain\.py, paper\.tex.*--into"
        ):
            RunFolder(foreign).claim()
        assert self.contents(foreign) == before

    def test_other_files_stay_whatever_the_run_does(self, foreign):
        before = self.contents(foreign)
        for force in (False, True):
            folder = RunFolder(foreign)
            folder.claim(into=True)
            with folder.create(force=force):
                folder.journal.append(RECORDS[0])
                save_arrays(folder.state_path, {})
                (foreign / "chain.txt").write_text("0")
        with RunFolder(foreign).create(force=True):
            assert {name: text for name, text in self.contents(foreign).items() if name in before} == before
            assert not (foreign / "chain.txt").exists()

    def test_a_file_with_the_name_of_one_of_a_run_is_refused(self, tmp_path):
        (tmp_path / "config.yaml").write_text("mine")
        with pytest.raises(ValueError, match=r"files that a run would replace \(config\.yaml\)"):
            RunFolder(tmp_path).claim(into=True)

    def test_folders_of_runs_and_empty_ones_are_taken(self, tmp_path):
        RunFolder(tmp_path / "new").claim()
        RunFolder(tmp_path).claim()
        (tmp_path / "evaluations.jsonl").touch()
        (tmp_path / "slurm.out").write_text("mine")
        RunFolder(tmp_path).claim()
        assert (tmp_path / "slurm.out").read_text() == "mine"

    def test_leftovers_of_runs_are_removed(self, tmp_path):
        (tmp_path / ".state.npz.99.tmp").touch()
        with RunFolder(tmp_path).create():
            assert not (tmp_path / ".state.npz.99.tmp").exists()

    @pytest.mark.parametrize("name", [".lock", "evaluations.jsonl"])
    def test_links_are_not_followed(self, tmp_path, name):
        (target := tmp_path / "precious").write_text("precious")
        (run := tmp_path / "run").mkdir()
        (run / name).symlink_to(target)
        with pytest.raises((ValueError, OSError), match="symbolic link"), RunFolder(run).create() as folder:
            folder.journal.append(RECORDS[0])
        assert target.read_text() == "precious"

    def test_a_lock_with_a_second_name_is_not_emptied(self, tmp_path):
        (target := tmp_path / "precious").write_text("precious")
        (run := tmp_path / "run").mkdir()
        (run / ".lock").hardlink_to(target)
        with RunFolder(run).create():
            assert target.read_text() == "precious"

    def test_a_link_is_replaced_by_the_file(self, tmp_path):
        (target := tmp_path / "precious").write_text("precious")
        (tmp_path / "trace.csv").symlink_to(target)
        with replacing(tmp_path / "trace.csv") as file:
            file.write(b"rows")
        assert (target.read_text(), (tmp_path / "trace.csv").read_text()) == ("precious", "rows")

    def test_a_link_in_place_of_the_temporary_file_is_not_written_through(self, tmp_path):
        (target := tmp_path / "precious").write_text("precious")
        (tmp_path / f".trace.csv.{os.getpid()}.tmp").symlink_to(target)
        with replacing(tmp_path / "trace.csv") as file:
            file.write(b"rows")
        assert target.read_text() == "precious"

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
    @pytest.mark.parametrize("name", ["evaluations.jsonl", ".lock"])
    def test_pipes_are_not_waited_for(self, tmp_path, name):
        os.mkfifo(tmp_path / name)
        with pytest.raises((ValueError, OSError), match="not a regular file"), RunFolder(tmp_path).create() as folder:
            folder.journal.read()
