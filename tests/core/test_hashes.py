"""A file's content is read once, and again when the file changes, however well that is hidden."""

import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cops_lightning.core import hashes as module
from cops_lightning.core.errors import DatasetError, WeightsError
from cops_lightning.core.hashes import FileHashes, sha256_of


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / name for name in ("a", "b", "c")]
    for path, content in zip(paths, (b"one", b"two", b"one"), strict=True):
        path.write_bytes(content)
    return paths


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    """The folder in which hashes are remembered."""
    monkeypatch.setenv("COPS_CACHE", str(tmp_path))
    module._warn_once.cache_clear()


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once, as they do two seconds after they were written."""
    monkeypatch.setattr(module, "SETTLED_NS", -1)


def never_read(monkeypatch):
    monkeypatch.setattr(FileHashes, "_hash", lambda _self, path: pytest.fail(f"{path} was read"))


def test_equal_content_has_equal_hashes_whatever_the_name(files, tmp_path):
    a, b, c = FileHashes().of(files)
    assert a == c != b


def test_a_second_process_does_not_read_the_bytes_again(files, tmp_path, settled, monkeypatch):
    first = FileHashes().of(files)
    never_read(monkeypatch)
    assert FileHashes().of(files) == first


def test_what_was_written_just_now_is_read_again_as_it_may_still_change(files, tmp_path, monkeypatch):
    FileHashes().of(files)
    monkeypatch.setattr(FileHashes, "_hash", lambda _self, path: ((0, 0, 0, 0), "read", False))
    assert FileHashes().of(files[:1]) == ["read"]


def overwrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def replace(path: Path, content: bytes) -> None:
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").replace(path)


@pytest.mark.parametrize("change", [overwrite, replace])
def test_another_content_of_the_same_size_and_time_is_noticed(change, files, tmp_path, settled):
    hashes = FileHashes()
    first, status = hashes.of(files), files[0].stat()
    change(files[0], b"two")
    os.utime(files[0], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert files[0].stat().st_mtime_ns == status.st_mtime_ns
    assert hashes.of(files) == [first[1], first[1], first[2]]


def test_hashes_of_two_kinds_lie_side_by_side(files, tmp_path, settled):
    xxh3, sha256 = FileHashes(), FileHashes(hashlib.sha256)
    expected = hashlib.sha256(b"one").hexdigest()
    for _ in range(2):
        assert len(xxh3.of(files)[0]) == 32
        assert sha256.of(files)[0] == expected == sha256_of(files[0])


def test_many_may_ask_at_once(files, tmp_path):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: FileHashes().of(files), range(16)))
    assert len({tuple(answer) for answer in answers}) == 1


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"gone.png cannot be read: No such file.*Restore the file"):
        FileHashes().of([tmp_path / "gone.png"])
    with pytest.raises(WeightsError, match="gone.pt cannot be read"):
        sha256_of(tmp_path / "gone.pt", WeightsError)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DatasetError, match=r"pipe.png cannot be read: it is no regular file"):
        FileHashes().of([tmp_path / "pipe.png"])


def test_a_name_that_is_not_utf_8_is_a_name_like_others(tmp_path, settled):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    path.write_bytes(b"one")
    hashes = FileHashes()
    assert hashes.of([path]) == hashes.of([path])


def test_a_damaged_memory_costs_time_alone_and_is_said_once(files, tmp_path, capsys):
    (tmp_path / "hashes.sqlite").write_bytes(b"no database at all" * 100)
    assert [FileHashes().of(files) for _ in range(2)] == 2 * [[FileHashes()._hash(path)[1] for path in files]]
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"warning: .*hashes.sqlite cannot be used \(.*\): files are hashed anew.*Delete it", line)


def test_a_folder_that_cannot_be_made_costs_time_alone_and_is_said(files, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COPS_CACHE", str(files[0] / "below_a_file"))
    assert len(set(FileHashes().of(files))) == 2
    assert "below_a_file cannot be made (Not a directory)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_memory_with_flipped_bytes_gives_the_right_hash(tmp_path, settled):
    paths = [tmp_path / f"{number}.png" for number in range(40)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number]))
    database = tmp_path / "hashes.sqlite"
    expected = FileHashes().of(paths)
    whole, random = database.read_bytes(), np.random.default_rng(0)
    for _ in range(150):
        content = bytearray(whole)
        for place in random.integers(0, len(content), random.integers(1, 6)):
            content[place] ^= int(random.integers(1, 256))
        database.write_bytes(content)
        assert FileHashes().of(paths) == expected
        for left in tmp_path.glob("hashes.sqlite*"):
            left.unlink()


def test_without_a_place_to_remember_files_are_hashed_nevertheless(files, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COPS_CACHE", str(tmp_path / "file"))
    assert sha256_of(files[0]) == hashlib.sha256(b"one").hexdigest()
