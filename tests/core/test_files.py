"""A file is replaced whole or not at all."""

import pytest

from cops_lightning.core.files import replacing


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
