"""Rendered datasets as data modules."""

import functools
import inspect
from pathlib import Path
from typing import get_args

import jaxtyping
import pytest

from cops_lightning.core.errors import ConfigError
from cops_lightning.data.catalog import GROUPS
from cops_lightning.data.datamodules import AnomalyDataModule
from cops_lightning.demo import datamodules
from cops_lightning.demo.datamodules import Rendered, RenderedName
from cops_lightning.demo.images import VERSION
from cops_lightning.demo.writer import DATASETS, write_mvtec


@pytest.fixture(autouse=True)
def written(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were rendered, with three images per category."""
    folders: list[Path] = []
    few = functools.partial(write_mvtec, train=0, normal=1, anomalous=2, progress=False)
    monkeypatch.setattr(
        datamodules, "write_mvtec", lambda folder, chosen: folders.append(folder) or few(folder, chosen)
    )
    return folders


def test_a_rendered_dataset_is_written_once_and_only_when_it_is_needed(tmp_path: Path, written: list[Path]):
    images = Rendered("procedural_easy", cache=tmp_path, image_size=32)
    assert written == []
    images.prepare_data()
    images.setup("test")
    batches = list(images.test_dataloader()[0])
    assert sum(map(len, batches)) == 4 * 3
    assert batches[0].masks is not None
    assert images.targets[0].name == "procedural_easy"
    Rendered("procedural_easy", cache=tmp_path).find()
    assert written == [tmp_path / f"procedural-{VERSION}" / "procedural_easy"]


def test_the_environment_says_where_images_are_rendered_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COPS_CACHE", str(tmp_path))
    images = Rendered("procedural_hard", limit=4)
    images.find()
    assert images.targets[0].root.is_relative_to(tmp_path)


def test_another_process_may_be_quicker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def beaten(folder: Path, chosen: object) -> None:
        write_mvtec(folder, chosen, train=0, normal=1, anomalous=1, progress=False)
        write_mvtec(folder, chosen, train=0, normal=1, anomalous=1, progress=False)

    monkeypatch.setattr(datamodules, "write_mvtec", beaten)
    images = Rendered("procedural_medium", cache=tmp_path)
    images.find()
    assert len(images.targets[0].test) == 4 * 2


def test_a_failure_to_render_is_not_hidden(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Rendered("procedural_easy", cache=tmp_path / "file").find()


def test_an_unknown_name_is_refused_with_the_nearest_before_anything_is_rendered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # outside of tests nothing checks the type
    with pytest.raises(ConfigError, match="no rendered dataset 'procedural_hart'. Did you mean 'procedural_hard'"):
        Rendered("procedural_hart")


def test_names_are_stated_alike():
    assert get_args(RenderedName) == tuple(DATASETS)
    assert set(GROUPS["procedural"]) == set(DATASETS) - {"procedural_auxiliary"}


def test_a_rendered_dataset_takes_the_settings_of_every_data_module():
    own = inspect.signature(Rendered).parameters
    for setting in inspect.signature(AnomalyDataModule).parameters.values():
        if setting.name != "evaluate_seen":
            assert own[setting.name] == setting
