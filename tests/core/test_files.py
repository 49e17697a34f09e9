"""A file is replaced whole or not at all."""

import errno
import os
import time
from pathlib import Path

import pytest

from commands import FORKS
from cops_lightning.core import files
from cops_lightning.core.errors import of_system
from cops_lightning.core.files import digest, growing, new_folder, read_whole, replacing, writing
from failing_disk import FailingDisk, failing


def test_a_block_that_succeeds_replaces_the_file(tmp_path):
    path = tmp_path / "new folder" / "file.txt"
    with replacing(path) as partial:
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_a_block_that_fails_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def write_without_end(folder, began) -> None:
    with replacing(folder / "file.txt") as partial, new_folder(folder / "new") as half:
        partial.write_text("half")
        (half / "file.txt").write_text("half")
        began.set()
        time.sleep(60)


@pytest.mark.slow
def test_what_a_killed_process_left_goes_with_the_next_writer_and_what_a_living_one_writes_stays(tmp_path):
    began = FORKS.Event()
    process = FORKS.Process(target=write_without_end, args=(tmp_path, began))
    process.start()
    try:
        assert began.wait(60)
        files._clear.cache_clear()
        with replacing(tmp_path / "other.txt") as partial:
            partial.write_text("whole")
        assert len(list(tmp_path.iterdir())) == 3
    finally:
        process.kill()
        process.join()
    files._clear.cache_clear()  # a folder is looked through once by each process
    with replacing(tmp_path / "other.txt") as partial:
        partial.write_text("whole")
    assert list(tmp_path.iterdir()) == [tmp_path / "other.txt"]


def test_what_other_programs_call_partial_is_theirs(tmp_path):
    names = (".film.mp4.partial", ".partial", f".x.{'0' * 31}.partial", f"x.{'0' * 32}.partial")
    for name in names:
        (tmp_path / name).write_text("half")
    (tmp_path / f".x.{'0' * 32}.partial").write_text("left by a writer of ours")
    with writing(tmp_path / "file.txt") as file:
        file.write("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "file.txt"])


def test_a_name_as_long_as_names_may_be_can_be_replaced(tmp_path):
    with replacing(tmp_path / ("n" * 255)) as partial:
        partial.write_text("whole")
    assert (tmp_path / ("n" * 255)).read_text() == "whole"


@pytest.mark.parametrize(
    ("number", "way_out"),
    [
        (errno.ENOSPC, "Free some space, or name a place on another disk"),
        (errno.EROFS, "Change its permissions, or name another place"),
        (errno.EIO, "Look at that disk"),
    ],
)
def test_what_the_system_refuses_is_a_sentence_with_the_path_and_a_way_out(number, way_out, tmp_path):
    with pytest.raises(OSError, match="said") as caught, replacing(tmp_path / "file.txt"):
        raise OSError(number, "said")
    assert of_system(caught.value) == f"{tmp_path / 'file.txt'}: said. {way_out}, and run the same command again."
    assert list(tmp_path.iterdir()) == []


def save_as_bytes(path: Path) -> None:
    with replacing(path) as partial:
        partial.write_bytes(b"x" * 10**5)


def save_by_name(path: Path) -> None:
    with replacing(path) as partial:
        partial.write_text("x" * 10**5)


def save_as_text(path: Path) -> None:
    with writing(path) as file:
        file.write("x" * 10**5)


@pytest.mark.parametrize("save", [save_as_bytes, save_by_name, save_as_text])
@pytest.mark.parametrize("what", ["open", "write", "replace"])
def test_a_full_disk_is_an_error_with_the_path_and_the_file_stays(save, what, tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    at = ["open", "write", "replace"].index(what)
    with failing(FailingDisk(tmp_path, at)) as disk, pytest.raises(OSError, match="No space left on device") as raised:
        save(path)
    assert disk.sites[at].what == what
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_only_a_regular_file_is_read_and_no_more_of_it_than_is_asked_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "text").write_text("12345")
    assert read_whole(tmp_path / "text", 5) == b"12345"
    assert digest(tmp_path / "fifo") is None
    for path, said in (
        (tmp_path / "fifo", "no regular"),
        (Path("/dev/zero"), "no regular"),
        (tmp_path / "text", "has more"),
    ):
        with pytest.raises(OSError, match=said):
            read_whole(path, 4)
    with pytest.raises(OSError, match="no regular"), growing(tmp_path / "fifo"):
        pass


def test_an_error_about_another_file_names_that_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"), replacing(tmp_path / "file"):
        (tmp_path / "absent").read_text()


def test_what_is_not_unicode_in_a_name_is_escaped_in_a_text(tmp_path):
    with writing(tmp_path / "file") as file:
        file.write("gut_\udcfc,\u96f6\n")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "gut_\\udcfc,\u96f6\n"
