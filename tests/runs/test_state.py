"""The state of a run on disk: what counts as done, where a run goes on, and that two processes never do the same."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from cops_lightning.core.errors import CopsError
from cops_lightning.core.files import claimed
from cops_lightning.report.tables import Run
from cops_lightning.runs.record import RunRecord
from cops_lightning.runs.state import Entry, leave_traceback, move_aside, read_entry, resumable

CONFIG = {"seed": 0}
KEY = "f0f0f0f0f0f0"
RUN = Run("0123456789ab", "ba9876543210", "trial", "cops", 0, "none")


def begun(folder, **more) -> RunRecord:
    return RunRecord(folder, CONFIG, RUN, key=KEY, **more)


@pytest.fixture
def finished(tmp_path):
    """A folder with a run that is done."""
    record = begun(tmp_path)
    (tmp_path / "results.csv").write_text("numbers\n")
    record.finish("done")
    return tmp_path


def test_a_finished_run_is_done(finished):
    assert read_entry(finished) == Entry(RUN.run_id, KEY, done=True, attempts=1, kept=True)


def test_a_folder_without_an_entry_is_not_done(tmp_path):
    assert read_entry(tmp_path) == Entry()


@pytest.mark.parametrize("size", [0, 1, 40, -1])
def test_a_half_written_entry_names_no_run_and_its_results_are_to_be_kept(finished, size):
    entry = finished / "run.json"
    entry.write_text(entry.read_text().rstrip()[:size])
    assert read_entry(finished) == Entry(kept=True)


def test_results_that_are_not_those_of_the_entry_make_it_undone(finished):
    (finished / "results.csv").write_text("numb")
    assert not read_entry(finished).done
    (finished / "results.csv").unlink()
    assert not read_entry(finished).done


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_run_that_did_not_finish_is_not_done_though_it_has_results(tmp_path, status):
    record = begun(tmp_path)
    (tmp_path / "results.csv").write_text("numbers\n")
    record.finish(status)
    assert not read_entry(tmp_path).done


def saved(folder) -> Path:
    last = folder / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    torch.save({"epoch": 3, "optimizer_states": [], "weights": torch.ones(999)}, last)
    return last


@pytest.mark.parametrize("damage", ["cut", "flipped", "another"])
def test_a_run_goes_on_from_a_whole_checkpoint_and_not_from_a_broken_one(tmp_path, damage):
    last = saved(tmp_path)
    assert resumable(tmp_path) == last
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1  # in the midst of the weights
    broken = {"cut": content[:-40], "flipped": content, "another": b"weights"}
    last.write_bytes(broken[damage])
    assert resumable(tmp_path) is None
    last.unlink()
    assert resumable(tmp_path) is None


@pytest.mark.parametrize("name", ["run.json", "results.csv", "checkpoints/last.ckpt"])
def test_what_cannot_be_read_at_the_moment_is_an_error_that_names_it(finished, name, monkeypatch):
    saved(finished)
    opened = os.open

    def refused(path, *mode, **more):
        if path == finished / name:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *mode, **more)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(CopsError, match=rf"{name} is there, but cannot be read \(Permission denied\). Nothing was"):
        read_entry(finished)


def test_every_attempt_is_counted(finished):
    begun(finished, attempts=read_entry(finished).attempts)
    assert read_entry(finished).attempts == 2


def test_moving_aside_leaves_nothing_that_another_run_could_go_on_from_and_loses_nothing(finished):
    saved(finished)
    leave_traceback(finished, ValueError("no"))
    (finished / "notes.txt").write_text("a user's own")
    before = {path.relative_to(finished): path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    asides = []
    for _ in range(2):
        asides.append(move_aside(finished))
        assert read_entry(finished) == Entry()
        (finished / "results.csv").write_text("of the next")
    assert asides == [finished / "earlier" / number for number in "12"]
    moved = {path.relative_to(asides[0]): path.read_bytes() for path in asides[0].rglob("*") if path.is_file()}
    assert moved | {Path("notes.txt"): b"a user's own"} == before


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_disk_that_is_full_does_not_keep_the_record_from_saying_how_the_run_ended(tmp_path, status, monkeypatch):
    record = begun(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        record.finish(status, "no space")
    assert json.loads((tmp_path / "run.json").read_text())["status"] == status


def test_the_traceback_says_where_and_why(tmp_path):
    try:
        json.loads("[")
    except ValueError as error:
        leave_traceback(tmp_path, error)
    said = (tmp_path / "traceback.txt").read_text()
    assert said.startswith("Traceback")
    assert "JSONDecodeError" in said


CLAIM = """
import sys
from pathlib import Path
from cops_lightning.core.files import claimed
with claimed(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_claimed_by_one_process_until_it_ends_even_by_sigkill(tmp_path):
    command = [sys.executable, "-c", CLAIM, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        with claimed(tmp_path) as mine:
            assert not mine
        other.kill()
        other.wait()
    with claimed(tmp_path) as mine:
        assert mine
