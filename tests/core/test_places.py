"""What can be said of a place before there is anything to write."""

import os
from pathlib import Path

import pytest

from cops_lightning.core.errors import CopsError
from cops_lightning.core.places import require_apart, require_own, require_writable


def test_a_place_that_nothing_can_be_written_to_is_known_before_the_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    require_writable(tmp_path / "new" / "deep" / "x.json")
    with pytest.raises(NotADirectoryError):
        require_writable(tmp_path / "file" / "x.json")
    monkeypatch.setattr(os, "access", lambda place, _: place != tmp_path)
    with pytest.raises(PermissionError) as caught:
        require_own("out", tmp_path / "new" / "x.json", "x", bool)
    assert caught.value.filename == str(tmp_path / "new" / "x.json")


def test_what_is_there_is_replaced_only_if_it_begins_as_ones_own_does(tmp_path):
    for name, content in (("own", "mine and more"), ("other", "somebody's"), ("empty", "")):
        (tmp_path / name).write_text(content)
    os.mkfifo(tmp_path / "fifo")
    require_own("out", tmp_path / "own", "x", lambda start: start.startswith(b"mine"))
    require_own("out", tmp_path / "new", "x", lambda _: False)
    for name in ("other", "empty", "fifo", "."):
        with pytest.raises(CopsError, match="which is there and is no x. Nothing was written."):
            require_own("out", tmp_path / name, "x", lambda start: start.startswith(b"mine"))


def test_a_link_hides_no_folder_that_is_read(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to("photos")
    for out, read in (("link/x", "photos"), ("photos/x", "link"), ("photos/../photos", "photos")):
        with pytest.raises(CopsError, match="whose images are read. Nothing was written"):
            require_apart("out", tmp_path / out, [Path(tmp_path / read)])
    require_apart("out", tmp_path / "photos2", [tmp_path / "photos"])
