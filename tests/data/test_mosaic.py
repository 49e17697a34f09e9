"""Mosaics of training images: a share of them, anew in every epoch, by the seed alone."""

from pathlib import Path

import pytest
import torch
from torch.utils.data import Dataset

from cops_lightning.core.types import Sample
from cops_lightning.data.datamodules import Folder
from cops_lightning.data.dataset import Item
from cops_lightning.data.mosaic import Mosaics

SIDE = 8


class Flat(Dataset):
    """Images of one value each, their place; masks of the value's last bit."""

    def __init__(self, categories: str, has_masks: bool = True) -> None:
        self.has_masks = has_masks
        self.samples = [
            Sample("flat", category, "test", "good", Path(f"{at}.png"), None, bool(at % 2), str(at))
            for at, category in enumerate(categories)
        ]

    def __getitem__(self, place: int) -> Item:
        mask = torch.full((SIDE, SIDE), float(place % 2)) if self.has_masks else None
        return Item(torch.full((3, SIDE, SIDE), float(place)), mask, self.samples[place], str(place))


def mosaics(flat: Flat, share: float, seed: int = 0) -> Mosaics:
    return Mosaics(flat, flat.samples, share, seed)


def corners(of: torch.Tensor) -> list[int]:
    return of[..., [0, 0, -1, -1], [0, -1, 0, -1]].round().int().tolist()


def test_the_share_of_images_that_is_replaced_is_that_asked_for():
    flat = Flat("a" * 10)
    made = [mosaics(flat, 0.2)[number] for number in range(500)]
    replaced = sum(item.name != str(number % 10) for number, item in enumerate(made))
    assert abs(replaced - 100) < 4 * (500 * 0.2 * 0.8) ** 0.5  # four standard deviations


def test_a_mosaic_is_of_four_images_of_the_category_with_their_masks_under_the_label_of_the_one_replaced():
    flat = Flat("abababababa")
    for number in range(5 * 11):
        item = mosaics(flat, 1.0)[number]
        assert item.sample == flat.samples[number % 11]
        tiles = corners(item.image[0])
        assert len(set(tiles)) == 4
        assert {flat.samples[tile].category for tile in tiles} == {item.sample.category}
        assert corners(item.mask) == [tile % 2 for tile in tiles]


def test_mosaics_are_a_function_of_seed_and_epoch():
    flat = Flat("a" * 10)

    def epoch(of: int, seed: int = 0) -> list[str]:
        return [mosaics(flat, 1.0, seed)[of * 10 + place].name for place in range(10)]

    assert epoch(1) == epoch(1)
    assert len({*epoch(0), *epoch(1), *epoch(1, seed=1)}) > 20


def test_a_category_of_fewer_than_four_images_has_no_mosaics_and_a_dataset_without_masks_none_of_masks():
    few = mosaics(Flat("aaabb"), 1.0)
    assert [few[place].name for place in range(5)] == ["0", "1", "2", "3", "4"]
    assert mosaics(Flat("aaaa", has_masks=False), 1.0)[0].mask is None


@pytest.mark.parametrize("options", [{}, {"val_fraction": 0.25}])
def test_a_data_module_makes_mosaics_for_training_alone_in_the_order_of_plain_images(parts, options):
    plain, tiled = (Folder(parts, image_size=SIDE, mosaic=share, **options) for share in (0.0, 0.5))
    epochs = []
    for epoch in (0, 1):
        loaders = [data.train_dataloader() for data in (plain, tiled)]
        for loader in loaders:
            loader.batch_sampler.sampler.set_epoch(epoch)
        for before, after in zip(*loaders, strict=True):
            assert (before.keys, before.labels.tolist()) == (after.keys, after.labels.tolist())
            epochs.append(after.names != before.names)
    assert any(epochs)
    tested = [next(iter(data.test_dataloader()[0])).images for data in (plain, tiled)]
    assert torch.equal(*tested)
