"""What the words of a configuration mean."""

from pathlib import Path

import pytest

from cops_lightning import compose
from cops_lightning.compose import build_data, find_targets
from cops_lightning.config import CorruptionConfig, DataConfig
from cops_lightning.core.errors import ConfigError
from cops_lightning.data import BENCHMARK, DatasetIndex


@pytest.fixture
def asked(monkeypatch) -> list[str]:
    """The names of the datasets that were looked for, none of which needs to exist."""
    names: list[str] = []

    def find(name: str, _data: DataConfig) -> DatasetIndex:
        names.append(name)
        return DatasetIndex(name, Path(name), "made by the test", (), (), has_masks=False)

    monkeypatch.setattr(compose, "find_dataset", find)
    return names


def test_all_is_the_benchmark_less_the_auxiliary_dataset(asked):
    find_targets("all", "visa", DataConfig())
    assert set(asked) == set(BENCHMARK) - {"visa"}


def test_industrial_and_medical_split_the_benchmark(asked):
    find_targets(["industrial", "medical"], "none of them", DataConfig())
    assert sorted(asked) == sorted(BENCHMARK)
    assert asked.index("mvtec") < asked.index("headct")


def test_a_single_name_needs_no_list(asked):
    find_targets("btad", "visa", DataConfig())
    assert asked == ["btad"]


def test_procedural_means_its_three_test_sets(asked):
    find_targets(["procedural"], "procedural_auxiliary", DataConfig())
    assert asked == ["procedural_easy", "procedural_medium", "procedural_hard"]


def test_a_dataset_named_twice_is_refused(asked):
    with pytest.raises(ConfigError, match="holds mvtec twice"):
        find_targets(["mvtec", "industrial"], "visa", DataConfig())


@pytest.mark.parametrize("nothing", [[], None, [3]])
def test_targets_that_name_nothing_are_refused(nothing):
    with pytest.raises(ConfigError, match="name at least one dataset"):
        find_targets(nothing, "visa", DataConfig())


def test_augmentation_is_off_by_default_and_built_from_albumentations_names():
    index = DatasetIndex("parts", Path(), "made by the test", (), (), has_masks=False)
    flip = DataConfig(augment=[{"_target_": "albumentations.HorizontalFlip", "p": 1.0}])
    assert build_data(DataConfig(), CorruptionConfig(), 0, index, [], 64).augment is None
    pipeline = build_data(flip, CorruptionConfig(), 0, index, [], 64).augment
    assert type(pipeline.transforms[0]).__name__ == "HorizontalFlip"
