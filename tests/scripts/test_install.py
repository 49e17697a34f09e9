"""The installation that says how far it is, with a program in pip's place."""

import sys

import pytest

import install

# What pip 24 and later print where there is no terminal; the folders are what it leaves behind.
STAND_IN = """
import sys, time
from pathlib import Path
site = Path({site!r})
print("Collecting torch>=2.11 (from cops_lightning==0.1.0)", flush=True)
print("  Downloading torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl (820.1 MB)", flush=True)
time.sleep(0.1)
print("Collecting numpy", flush=True)
print("Installing collected packages: numpy, torch, cops_lightning", flush=True)
time.sleep(0.1)
(site / "numpy-2.0.dist-info").mkdir()
time.sleep(0.1)
sys.exit({code})
"""


@pytest.fixture
def site(tmp_path, monkeypatch):
    (tmp_path / "pip-25.0.dist-info").mkdir()
    monkeypatch.setattr(install, "SITE", tmp_path)
    monkeypatch.setattr(install, "LOG", tmp_path / "install.log")
    monkeypatch.setattr(install, "EVERY", 0.02)

    def pip(code: int) -> None:
        program = STAND_IN.format(site=str(tmp_path), code=code)
        monkeypatch.setattr(install, "PIP", [sys.executable, "-c", program])

    return pip


def test_the_installation_says_what_is_fetched_and_how_many_packages_are_installed_of_how_many(site, capsys):
    site(0)
    assert install.main([".[test]"]) == 0
    said = capsys.readouterr().out
    assert "1 packages found, fetching torch (820.1 MB)" in said
    assert "0 of 3 packages installed" in said
    assert "1 of 3 packages installed" in said
    assert said.endswith("Installed.\n")


def test_where_pip_fails_all_that_it_said_is_printed_and_the_exit_code_is_its_own(site, capsys):
    site(2)
    assert install.main([".[test]"]) == 2
    said = capsys.readouterr().out
    assert "Collecting numpy" in said
    assert "Installed." not in said
