"""A disk that fails once, at any file that a run opens, writes or renames: nothing finished is lost."""

import contextlib
import errno
import io
import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict
from PIL import Image

from cli.conftest import SMALL, make_dataset
from commands import as_a_program
from cops_lightning.cli.hydra_app import one_sentence
from cops_lightning.cli.recipes import train, work
from cops_lightning.config.options import register
from cops_lightning.config.settings import TrainSettings
from cops_lightning.core.files import conf_folder
from cops_lightning.core.hashes import _warn_once
from cops_lightning.runs.jobs import attempt, prepare, quiet_console
from failing_disk import FailingDisk, Site, failing

ERRORS = (errno.ENOSPC, errno.EACCES, errno.EIO)
SECONDS = 30  # for all cases; those that are left then are not tried
LIBRARIES = {"save", "connect"}
NUMBERS = ("results.csv", "scores.csv", "checkpoints/released.pth")
# What a run goes on without.
DISPENSABLE = (
    "cache",
    "hashes",
    "run/heatmaps",
    "run/metrics.csv",
    "run/domain_shift",
    "run/vae_health",
    "run/latent_draws",
)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DictConfig]:
    """A small training and its test, composed once: that takes longer than the run."""
    here = tmp_path_factory.mktemp("faults")
    sets = [f"auxiliary.source={make_dataset(here / 'parts')}", f"targets=[{make_dataset(here / 'tiles', seed=1)}]"]
    few = ["callbacks.heat_maps.count=3", "callbacks.diagnostics.images=4", "callbacks.diagnostics.draws=2"]
    small = ["auxiliary=own", "preset.epochs=1", *few, *sets, *SMALL]
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        whole = compose("train", ["paths.output=.", *small], return_hydra_config=True)
    HydraConfig.instance().set_config(whole)
    with open_dict(whole):
        del whole["hydra"]
    yield whole
    HydraConfig.instance().cfg = None


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are written, but not drawn: that takes longer than the run, too."""

    def save(path: Path, *_: object) -> None:
        Image.new("RGB", (2, 2)).save(path, format="png")

    monkeypatch.setattr("cops_lightning.callbacks.heat_maps.save_heat_map", save)
    monkeypatch.setattr("cops_lightning.callbacks.heat_maps.save_contact_sheet", save)


def run(config: DictConfig, folder: Path) -> tuple[int, str]:
    """The exit code of a run in `folder`/run, and what it says on stderr."""
    mine, err = config.copy(), io.StringIO()
    mine.paths.output, mine.paths.cache = str(folder / "run"), str(folder / "cache")
    _warn_once.cache_clear()
    with (
        as_a_program(folder.parent, os.environ | {"COPS_CACHE": str(folder / "hashes")}),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(err),
    ):
        quiet_console()
        try:
            with one_sentence():
                attempt(prepare(mine, folder / "run", TrainSettings), train, work)
        except SystemExit as end:
            return int(end.code or 0), err.getvalue()
    return 0, err.getvalue()


def numbers(folder: Path) -> dict[str, bytes]:
    return {name: (folder / "run" / name).read_bytes() for name in NUMBERS}


def cases(sites: list[Site]) -> list[tuple[int, Site, int]]:
    """Every kind of site once, at one of its places and with one of the errors, in an order of chance but for those
    of libraries, which come first."""
    chance, places = random.Random(0), {}
    for at, site in enumerate(sites):
        places.setdefault(site, []).append(at)
    chosen = [(chance.choice(at), site, chance.choice(ERRORS)) for site, at in places.items()]
    chance.shuffle(chosen)
    return sorted(chosen, key=lambda case: case[1].what not in LIBRARIES)


def test_a_disk_that_fails_once_costs_nothing_that_is_finished_and_the_rerun_ends_with_equal_bytes(config, tmp_path):
    began = time.monotonic()
    with failing(FailingDisk(tmp_path / "sound")) as sound:
        assert run(config, tmp_path / "sound") == (0, "")
    expected = numbers(tmp_path / "sound")
    assert {"run/run.json", "run/scores.csv", "run/results.csv", "run/checkpoints/last.ckpt"} <= {
        site.path.replace(".partial", "").replace("/.", "/") for site in sound.sites if site.what == "replace"
    }
    assert {site.what for site in sound.sites} >= LIBRARIES
    for tried, (at, site, error) in enumerate(cases(sound.sites)):
        if tried > len(LIBRARIES) and time.monotonic() - began > SECONDS:
            break
        folder = tmp_path / f"{at}"
        with failing(FailingDisk(folder, at, error)) as disk:
            code, said = run(config, folder)
        case = (disk.sites[at], errno.errorcode[error], said)
        assert disk.sites[at] == site, case
        if any(site.path.lstrip("./").startswith(name) for name in DISPENSABLE):
            assert code == 0, case
            assert numbers(folder) == expected, case
        if said:
            line, *others = said.splitlines()
            assert not others, case
            assert line.startswith("error: " if code else "warning: "), case
            assert os.strerror(error) in line, case
            assert str(folder) in line, case
        record = folder / "run" / "run.json"
        status = json.loads(record.read_text()).get("status") if record.is_file() else "none"
        assert status in (("failed", "none") if code else ("done",)), case
        assert not list(folder.rglob("*.partial")), case
        assert run(config, folder) == (0, ""), case
        assert numbers(folder) == expected, case


def test_a_disk_that_stays_full_ends_in_one_sentence_with_the_path(config, tmp_path):
    """Every site from one on fails, the last word in run.json too."""
    with failing(FailingDisk(tmp_path, errno.ENOSPC)) as disk:
        disk.due = lambda what, path: what == "write" and str(path).startswith(str(tmp_path / "run"))
        code, said = run(config, tmp_path)
    assert code == 1
    assert said.startswith(f"error: {tmp_path / 'run' / 'run.json'}: No space left on device.")
    assert said.count("\n") == 1
