"""Mosaics of training images, put together anew in every epoch (AdaCLIP, arXiv 2407.15795)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from cops_lightning.core.seeding import content_names, named_generator
from cops_lightning.core.types import Sample
from cops_lightning.data.dataset import Item
from cops_lightning.data.samplers import EpochShuffle

TILES = 4


class NumberedShuffle(EpochShuffle):
    """The same order, of places that say the epoch too: they go on counting from one epoch to the next."""

    def __iter__(self) -> Iterator[int]:
        return (self.epoch * self.size + place for place in super().__iter__())


class Mosaics(Dataset[Item]):
    """Images of which a share is replaced by mosaics of 2 x 2 different images, random ones of its category.

    As released, the label stays that of the image replaced, which a mosaic may contradict; the mask is the mosaic's. An
    image of a category of fewer than four stays.

    Args:
        dataset: the images.
        samples: what they are.
        share: the probability of a mosaic.
        seed: decides, with epoch and place, which images are replaced, and by what.
    """

    def __init__(self, dataset: Dataset[Item], samples: Sequence[Sample], share: float, seed: int) -> None:
        self.dataset, self.samples, self.share, self.seed = dataset, tuple(samples), share, seed
        self._places: dict[str, list[int]] = {}
        for place, sample in enumerate(self.samples):
            self._places.setdefault(sample.category, []).append(place)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> Item:
        """The image of a place as `NumberedShuffle` counts them."""
        epoch, place = divmod(number, len(self))
        item, places = self.dataset[place], self._places[self.samples[place].category]
        generator = named_generator(self.seed, "mosaic", epoch, place)
        if len(places) < TILES or torch.rand((), generator=generator) >= self.share:
            return item
        chosen = torch.randperm(len(places), generator=generator)[:TILES].tolist()
        tiles = [self.dataset[places[at]] for at in chosen]
        image = joined([cast(Tensor, tile.image) for tile in tiles], "bicubic")
        masks = [tile.mask[None] for tile in tiles if tile.mask is not None]
        mask = (joined(masks, "bilinear")[0] > 0.5).float() if masks else None
        return replace(item, image=image, mask=mask, name=content_names(image[None])[0])


def joined(tiles: Sequence[Tensor], mode: str) -> Tensor:
    """Four images side by side and one above the other, in the size of one."""
    whole = torch.cat([torch.cat([*tiles[:2]], dim=-1), torch.cat([*tiles[2:]], dim=-1)], dim=-2)
    return F.interpolate(whole[None], tiles[0].shape[-2:], mode=mode, antialias=True)[0]
