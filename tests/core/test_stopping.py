"""A command that is asked to end lets go of what it holds, and one whose output nobody takes says so."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import signal, sys, time
from cops_lightning.cli.console import exit_code
from cops_lightning.core.files import temporary_folder

signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run under nohup

def run():
    with temporary_folder("cops-test") as folder:
        (folder / "upload").write_text("private")
        print(oct(folder.stat().st_mode)[-3:], flush=True)
        time.sleep(float(sys.argv[1]))
    return 0

sys.exit(exit_code(run, "interrupted: nothing was written."))
"""


def started(seconds: float, temporary: Path, **options) -> subprocess.Popen:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(seconds)], env=environment, stderr=subprocess.PIPE, text=True, **options
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_asked_to_end_leaves_no_folder_and_says_so(number, tmp_path):
    with started(60, tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "700\n", "nobody else reads what is in it"
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (128 + number, "error: interrupted: nothing was written.\n")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_command_left_goes_with_the_next_one_and_a_living_ones_folder_stays(tmp_path):
    theirs = tmp_path / ".theirs.partial"
    theirs.mkdir()
    with (
        started(60, tmp_path, stdout=subprocess.PIPE) as killed,
        started(60, tmp_path, stdout=subprocess.PIPE) as living,
    ):
        for process in (killed, living):
            process.stdout.readline()
        killed.kill()
        killed.wait()
        assert len(list(tmp_path.iterdir())) == 3
        with started(0, tmp_path, stdout=subprocess.PIPE) as last:
            assert last.wait(timeout=60) == 0
        assert len(list(tmp_path.iterdir())) == 2
        assert theirs.exists()
        living.terminate()


def test_a_reader_that_is_gone_and_a_full_disk_behind_the_output_are_no_tracebacks(tmp_path):
    read, write = os.pipe()
    os.close(read)
    with started(0, tmp_path, stdout=write) as process, open("/dev/full", "w") as full:
        os.close(write)
        with started(0, tmp_path, stdout=full) as other:
            assert (process.communicate()[1], process.returncode) == ("", 1)
            _, said = other.communicate()
    assert (said[:6], other.returncode, "Traceback" in said) == ("error:", 1, False)
    assert list(tmp_path.iterdir()) == []
