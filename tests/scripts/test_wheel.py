"""The wheel, built from this checkout and installed into an empty environment, as `make wheel` does."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import check_wheel

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Without a network: the program that builds it is one of the tests' packages."""
    pytest.importorskip("hatchling", reason="needs pip install 'cops_lightning[test]'")
    folder = tmp_path_factory.mktemp("dist")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder, ROOT], check=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_is_complete_in_an_empty_environment(wheel):
    assert check_wheel.check(wheel).startswith("cops_lightning ")


@pytest.mark.slow
def test_a_wheel_that_lacks_a_file_is_refused(wheel, tmp_path):
    unpacked = tmp_path / "unpacked"
    shutil.unpack_archive(wheel, unpacked, "zip")
    (unpacked / "cops_lightning/conf/train.yaml").unlink()
    lacking = Path(shutil.make_archive(str(tmp_path / wheel.stem), "zip", unpacked)).rename(tmp_path / wheel.name)
    with pytest.raises(subprocess.CalledProcessError):
        check_wheel.check(lacking)
