"""The state of a run on disk: what counts as done, where a run goes on, and that two processes never do the same."""

import json
import subprocess
import sys

import pytest
import torch

from cops_lightning.report.tables import Run
from cops_lightning.runs.record import RunRecord
from cops_lightning.runs.state import Entry, begin_afresh, claimed, leave_traceback, read_entry

CONFIG = {"seed": 0}
RUN = Run("0123456789ab", "ba9876543210", "trial", "cops", 0, "none")


@pytest.fixture
def finished(tmp_path) -> tuple:
    """A folder with a run that is done, and the run's id."""
    record = RunRecord(tmp_path, CONFIG, RUN)
    (tmp_path / "results.csv").write_text("numbers\n")
    record.finish("done")
    return tmp_path, RUN.run_id


def test_a_finished_run_is_done(finished):
    folder, run_id = finished
    assert read_entry(folder, run_id) == Entry(done=True, attempts=1)


def test_a_folder_without_an_entry_is_not_done(tmp_path):
    assert read_entry(tmp_path, "0" * 12) == Entry()


def test_another_runs_entry_counts_for_nothing(finished):
    folder, _ = finished
    assert read_entry(folder, "0" * 12) == Entry()


@pytest.mark.parametrize("size", [0, 1, 40, -1])
def test_a_half_written_entry_counts_for_nothing(finished, size):
    folder, run_id = finished
    entry = folder / "run.json"
    entry.write_text(entry.read_text().rstrip()[:size])
    assert read_entry(folder, run_id) == Entry()


def test_results_that_are_not_those_of_the_entry_make_it_undone(finished):
    folder, run_id = finished
    (folder / "results.csv").write_text("numb")
    assert not read_entry(folder, run_id).done
    (folder / "results.csv").unlink()
    assert not read_entry(folder, run_id).done


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_run_that_did_not_finish_is_not_done_though_it_has_results(tmp_path, status):
    record = RunRecord(tmp_path, CONFIG, RUN)
    (tmp_path / "results.csv").write_text("numbers\n")
    record.finish(status)
    assert not read_entry(tmp_path, RUN.run_id).done


def test_a_run_goes_on_from_a_whole_checkpoint_and_not_from_a_broken_one(tmp_path):
    RunRecord(tmp_path, CONFIG, RUN)
    last = tmp_path / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    torch.save({"epoch": 3, "optimizer_states": []}, last)
    assert read_entry(tmp_path, RUN.run_id).checkpoint == last
    last.write_bytes(last.read_bytes()[:-40])
    assert read_entry(tmp_path, RUN.run_id).checkpoint is None


def test_every_attempt_is_counted(finished):
    folder, run_id = finished
    RunRecord(folder, CONFIG, RUN, entry=read_entry(folder, run_id))
    assert read_entry(folder, run_id).attempts == 2


def test_beginning_afresh_leaves_nothing_that_another_run_could_go_on_from(finished):
    folder, _ = finished
    last = folder / "checkpoints" / "last.ckpt"
    last.parent.mkdir()
    torch.save({}, last)
    leave_traceback(folder, ValueError("no"))
    begin_afresh(folder)
    assert not [path for path in (last, folder / "results.csv", folder / "traceback.txt") if path.exists()]


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
from cops_lightning.runs.state import claimed
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
