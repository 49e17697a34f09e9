"""The readers on real copies of published sets, in their original layouts."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cops_lightning.data.dataset import AnomalyDataset, collate
from cops_lightning.data.readers.images import read_image
from cops_lightning.data.readers.resolve import load_index


def test_head_ct_is_read_from_its_label_table_with_the_space_in_its_header(real: Path):
    index = load_index("headct", root=real)
    assert index.counts() == {"brain": {"train": (0, 0), "test": (100, 100)}}
    assert not index.has_masks
    assert {sample.image.name for sample in index.test if sample.anomalous} == {f"{i:03d}.png" for i in range(100)}


def test_brain_mri_is_read_with_all_its_extensions_and_spellings(real: Path):
    index = load_index("brainmri", root=real)
    assert index.counts() == {"brain": {"train": (0, 0), "test": (98, 155)}}
    assert {sample.image.suffix for sample in index.test} == {".jpg", ".JPG", ".jpeg", ".png"}


def test_a_part_of_kvasir_loads_since_counts_are_checked_on_demand_only(real: Path):
    index = load_index("kvasir", root=real)
    assert index.counts() == {"colon": {"train": (0, 0), "test": (0, 150)}}
    assert index.has_masks
    assert all(sample.mask is not None and sample.mask.stem == sample.image.stem for sample in index.test)


def test_one_category_of_mvtec_loads_with_its_training_images_and_masks(real: Path):
    index = load_index("mvtec", root=real)
    assert index.counts() == {"bottle": {"train": (209, 0), "test": (20, 63)}}
    assert {sample.defect for sample in index.test} == {"good", "broken_large", "broken_small", "contamination"}


def test_the_five_kinds_of_magnetic_tile_defects_are_one_category(real: Path):
    index = load_index("magnetic_tile", root=real)
    assert index.counts() == {"magnetic_tile": {"train": (0, 0), "test": (952, 392)}}
    assert {sample.defect for sample in index.test} == {"good", "Blowhole", "Break", "Crack", "Fray", "Uneven"}
    assert all(sample.mask is None for sample in index.test if not sample.anomalous)


def test_clinic_db_tiffs_that_pillow_refuses_are_read_in_colour(real: Path):
    index = load_index("clinicdb", root=real / "ClinicDB_raw_sample")
    assert len(index.test) == 12
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(index.test[0].image)
    for sample in index.test:
        pixels = np.asarray(read_image(sample.image)).astype(float)
        assert pixels.shape == (288, 384, 3)
        red, _, blue = pixels.mean(axis=(0, 1))
        assert red > 1.3 * blue  # the inside of a colon is red; one channel copied three times would be grey


def test_a_batch_of_real_images_has_the_range_of_clip_inputs(real: Path):
    dataset = AnomalyDataset(load_index("mvtec", root=real), size=112)
    batch = collate([dataset[0], dataset[len(dataset) - 1]])
    assert batch.images.shape == (2, 3, 112, 112)
    assert batch.labels.tolist() == [1, 0]
    assert batch.masks is not None
    assert batch.masks.sum((1, 2)).tolist()[1] == 0
    assert batch.masks[0].unique().tolist() == [0, 1]
    assert -1.8 < batch.images.min() < batch.images.max() < 2.2
