"""A file is replaced whole or not at all."""

import errno
import multiprocessing
import time

import pytest

from cops_lightning.core import files
from cops_lightning.core.errors import of_system
from cops_lightning.core.files import new_folder, replacing


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


def test_what_a_killed_process_left_goes_with_the_next_writer_and_what_a_living_one_writes_stays(tmp_path):
    context = multiprocessing.get_context("spawn")
    began = context.Event()
    process = context.Process(target=write_without_end, args=(tmp_path, began))
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
