"""What a run trains on and evaluates, and in which order."""

from pathlib import Path

import pytest
from PIL import Image

from cops_lightning import data
from cops_lightning.core.errors import ProtocolError
from cops_lightning.core.types import Sample
from cops_lightning.data import BENCHMARK, DatasetIndex, PublishedDataset
from cops_lightning.data.datamodules import CopsDataModule, EpochShuffle, thinned


def index(name: str, categories: dict[str, tuple[int, int]], root: str = "/data") -> DatasetIndex:
    """A dataset of so many normal and anomalous test images per category; the files need not exist."""
    samples = tuple(
        Sample(name, c, "test", "d", Path(root, name, c, f"{anomalous}{i}.png"), None, anomalous, f"{name}/{c}/{i}")
        for c, counts in categories.items()
        for anomalous, count in zip((False, True), counts, strict=True)
        for i in range(count)
    )
    return DatasetIndex(name, Path(root, name), "made by the test", (), samples, has_masks=False)


def test_every_epoch_has_its_own_order_which_the_seed_decides():
    sampler = EpochShuffle(20, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    sampler.set_epoch(0)
    assert list(sampler) == first != list(EpochShuffle(20, seed=1))


def test_a_limit_keeps_the_shares_of_categories_and_labels():
    small = thinned(index("a", {"x": (40, 20), "y": (20, 20)}), 10)
    kept = [(s.category, s.anomalous) for s in small.test]
    assert {key: kept.count(key) for key in set(kept)} == {
        ("x", False): 4, ("x", True): 2, ("y", False): 2, ("y", True): 2,
    }  # fmt: skip


def test_a_limit_above_the_size_changes_nothing():
    whole = index("a", {"x": (2, 2)})
    assert thinned(whole, 10) is whole


def test_training_without_an_auxiliary_dataset_is_refused():
    with pytest.raises(ProtocolError, match="auxiliary=NAME"):
        CopsDataModule(None, [], image_size=48).train_dataloader()


def test_each_published_dataset_is_a_lightning_data_module_by_name():
    classes = [value for value in (getattr(data, name) for name in data.__all__) if isinstance(value, type)]
    named = {c.catalog_name: c for c in classes if issubclass(c, PublishedDataset) and c is not PublishedDataset}
    assert set(named) == set(BENCHMARK)
    assert named["mvtec"] is data.MVTecAD


def test_a_published_dataset_trains_on_and_evaluates_its_test_split(tmp_path):
    for label, count in (("no", 3), ("yes", 2)):
        (tmp_path / "brain_tumor_dataset" / label).mkdir(parents=True)
        for number in range(count):
            pixels = Image.new("RGB", (20, 30), (number, 0, 0))
            pixels.save(tmp_path / "brain_tumor_dataset" / label / f"{label}{number}.png")
    module = data.BrainMRI(tmp_path, image_size=32, batch_size=4)
    (evaluated,) = module.test_dataloader()
    for loader in (module.train_dataloader(), evaluated):
        batches = list(loader)
        assert sum(int(batch.labels.sum()) for batch in batches) == 2
        assert sum(len(batch.images) for batch in batches) == 5
        assert batches[0].masks is None
