"""From samples to tensors: the input of CLIP, and masks by either rule."""

import pickle
from pathlib import Path

import albumentations
import numpy as np
import pytest
import torch
from PIL import Image
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader
from torchvision import transforms

from cops_lightning.core.errors import DatasetError
from cops_lightning.core.seeding import content_names
from cops_lightning.core.types import CLIP_MEAN, CLIP_STD
from cops_lightning.data.dataset import AnomalyDataset, collate
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.data.readers.resolve import load_index
from data.conftest import MakeTree, write_image

RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (37, 53, 3), dtype=np.uint8)


@pytest.fixture
def index(tmp_path: Path) -> DatasetIndex:
    """A normal and an anomalous image of 53 x 37 pixels; the mask has the values 0, 1 and 200."""
    write_image(tmp_path / "test" / "good" / "0.png", PHOTO)
    write_image(tmp_path / "test" / "bad" / "1.png", PHOTO)
    mask = np.zeros((37, 53), np.uint8)
    mask[:, 10:20] = 1
    mask[:, 30:50] = 200
    write_image(tmp_path / "ground_truth" / "bad" / "1.png", mask)
    return load_index(tmp_path)


def test_an_image_becomes_what_the_transforms_of_clip_make_of_it(index: DatasetIndex):
    reference = transforms.Compose(
        [
            transforms.Resize((28, 28), transforms.InterpolationMode.BICUBIC, antialias=True),
            transforms.ToTensor(),
            transforms.Normalize(CLIP_MEAN, CLIP_STD),
        ]
    )
    image = AnomalyDataset(index, size=28)[0].image
    assert image.is_contiguous()
    torch.testing.assert_close(image, reference(Image.fromarray(PHOTO)), atol=1e-6, rtol=0)


def test_a_mask_becomes_what_the_released_program_makes_of_it(index: DatasetIndex):
    stored = Image.open(index.test[0].mask)
    every_value = Image.fromarray(np.where(np.asarray(stored) > 0, 255, 0).astype(np.uint8))
    scaled = transforms.functional.to_tensor(transforms.Resize((28, 28))(every_value))[0]
    mask = AnomalyDataset(index, size=28, mask_threshold="released")[0].mask
    assert mask is not None
    assert torch.equal(mask, (scaled > 0.5).float())


def test_the_released_rule_takes_every_value_but_zero_and_the_dataset_rule_those_above_its_threshold(
    index: DatasetIndex,
):
    released, own = (AnomalyDataset(index, size=53, mask_threshold=rule)[0].mask for rule in ("released", "dataset"))
    assert released is not None
    assert own is not None
    assert released[0].nonzero().flatten().tolist() == [*range(10, 20), *range(30, 50)]
    assert own[0].nonzero().flatten().tolist() == [*range(30, 50)]


def test_a_normal_image_has_an_all_zero_mask_of_the_size_asked_for(index: DatasetIndex):
    sample = AnomalyDataset(index, size=28)[1]
    assert not sample.sample.anomalous
    assert sample.mask is not None
    assert torch.equal(sample.mask, torch.zeros(28, 28))


def test_a_batch_carries_images_masks_labels_and_samples(index: DatasetIndex):
    dataset = AnomalyDataset(index, size=28)
    batch = collate([dataset[0], dataset[1]])
    assert batch.images.shape == (2, 3, 28, 28)
    assert batch.masks is not None
    assert batch.masks.shape == (2, 28, 28)
    assert batch.labels.tolist() == [1, 0]
    assert batch.samples == index.test
    # Both files hold the same pixels.
    assert batch.names == content_names(batch.images)
    assert batch.names[0] == batch.names[1]


def test_a_dataset_without_masks_makes_batches_without_masks(make_tree: MakeTree):
    dataset = AnomalyDataset(load_index(make_tree("yes/1.png", "no/0.png")), size=8)
    assert collate([dataset[0], dataset[1]]).masks is None


def test_images_with_and_without_masks_do_not_share_a_batch(index: DatasetIndex, make_tree: MakeTree):
    without = AnomalyDataset(load_index(make_tree("yes/1.png", "no/0.png")), size=28)
    with pytest.raises(DatasetError, match="mixes images of datasets with and without masks"):
        collate([AnomalyDataset(index, size=28)[0], without[0]])


def test_the_split_can_be_chosen(make_tree: MakeTree):
    index = load_index(
        "mvtec", make_tree("bottle/train/good/0.png", "bottle/test/good/0.png", "bottle/test/good/1.png")
    )
    assert len(AnomalyDataset(index, size=8)) == 2
    assert len(AnomalyDataset(index, size=8, split="train")) == 1


def test_image_and_mask_are_augmented_together(index: DatasetIndex):
    flipped = AnomalyDataset(index, size=28, augment=albumentations.HorizontalFlip(p=1.0))[0]
    plain = AnomalyDataset(index, size=28)[0]
    torch.testing.assert_close(flipped.image, plain.image.flip(2))
    assert plain.mask is not None
    assert flipped.mask is not None
    assert torch.equal(flipped.mask, plain.mask.flip(1))


def test_images_without_masks_can_be_augmented(make_tree: MakeTree):
    augment = albumentations.Compose([albumentations.VerticalFlip(p=1.0)])
    dataset = AnomalyDataset(load_index(make_tree("yes/1.png", "no/0.png")), size=8, augment=augment)
    assert dataset[0].mask is None


@pytest.mark.parametrize("augment", [albumentations.Resize(14, 14), albumentations.ToFloat()])
def test_an_augmentation_that_changes_size_or_type_is_refused(
    index: DatasetIndex, augment: albumentations.BasicTransform
):
    with pytest.raises(DatasetError, match="It must keep size and type"):
        AnomalyDataset(index, size=28, augment=augment)[0]


def test_worker_processes_give_the_same_batches(index: DatasetIndex):
    dataset = AnomalyDataset(index, size=28)
    (here,), (there,) = (DataLoader(dataset, 2, collate_fn=collate, num_workers=workers) for workers in (0, 1))
    assert torch.equal(here.images, there.images)
    assert here.samples == there.samples
    assert pickle.loads(pickle.dumps(dataset))[0].sample == dataset[0].sample


def test_an_error_in_a_worker_process_is_still_one_sentence(index: DatasetIndex):
    index.test[1].image.write_bytes(b"")
    try:
        AnomalyDataset(index, size=28)[1]
    except DatasetError:
        carried = ExceptionWrapper(where="in DataLoader worker process 0")  # what a worker sends home
    with pytest.raises(DatasetError) as caught:
        carried.reraise()
    expected = f"{index.test[1].image} cannot be read: it is empty. Replace the file."
    assert str(caught.value) == expected
