"""A file's content is read once, and again when the file changes."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from cops_lightning.core.errors import CacheError, DatasetError
from cops_lightning.features import FileHashes


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, content in zip(paths, (b"one", b"two", b"one"), strict=True):
        path.write_bytes(content)
    return paths


def test_equal_content_has_equal_hashes_whatever_the_name(files, tmp_path):
    a, b, c = FileHashes(tmp_path / "hashes.sqlite").of(files)
    assert a == c != b


def test_a_second_process_does_not_read_the_bytes_again(files, tmp_path):
    first = FileHashes(tmp_path / "hashes.sqlite").of(files)
    status = files[0].stat()
    files[0].write_bytes(b"new")  # same size, and the same time: only the bytes could tell
    os.utime(files[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert FileHashes(tmp_path / "hashes.sqlite").of(files) == first


def test_a_file_that_was_written_anew_is_read_anew(files, tmp_path):
    hashes = FileHashes(tmp_path / "hashes.sqlite")
    first = hashes.of(files)
    files[0].write_bytes(b"two")
    os.utime(files[0], ns=(0, 1))
    assert hashes.of(files) == [first[1], first[1], first[2]]


def test_many_may_ask_at_once(files, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: FileHashes(tmp_path / "hashes.sqlite").of(files), range(16)))
    assert len({tuple(answer) for answer in answers}) == 1


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"gone.png cannot be read: No such file.*Restore the file"):
        FileHashes(tmp_path / "hashes.sqlite").of([tmp_path / "gone.png"])


def test_a_damaged_memory_of_hashes_says_that_it_may_be_deleted(files, tmp_path):
    (tmp_path / "hashes.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(CacheError, match=r"hashes.sqlite cannot be used.*Delete it; it is made anew"):
        FileHashes(tmp_path / "hashes.sqlite").of(files)
