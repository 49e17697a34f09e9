"""What a run trains on and evaluates, and in which order."""

from pathlib import Path

import pytest

from cops_lightning.core.errors import ProtocolError
from cops_lightning.core.types import Sample
from cops_lightning.data import DatasetIndex
from cops_lightning.engine.datamodule import CopsDataModule, EpochShuffle, require_unseen, thinned, trained_categories


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


def test_targets_with_trained_categories_are_refused_by_name():
    auxiliary = index("a", {"x": (1, 1)})
    with pytest.raises(ProtocolError, match=r"a is not zero-shot: its categories a/x.*evaluate_seen=\[a\]"):
        require_unseen([index("b", {"x": (1, 1)}), auxiliary], trained_categories(auxiliary), auxiliary, [])
    require_unseen([auxiliary], trained_categories(auxiliary), auxiliary, ["a"])


def test_the_same_files_under_another_name_are_refused():
    auxiliary = index("a", {"x": (1, 1)})
    renamed = DatasetIndex("b", auxiliary.root, "", (), auxiliary.test, has_masks=False)
    with pytest.raises(ProtocolError, match="b is not zero-shot: 2 of its images were trained on"):
        require_unseen([renamed], (), auxiliary, [])


def test_training_without_an_auxiliary_dataset_is_refused():
    with pytest.raises(ProtocolError, match="auxiliary=NAME"):
        CopsDataModule(None, [], image_size=48).train_dataloader()
