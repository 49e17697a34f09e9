"""What an image is, and on what it depends."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cv2
import numpy as np
import pytest
from scipy.stats import rankdata

from cops_lightning.core.errors import DatasetError
from cops_lightning.demo import CATEGORIES, DEFECTS, ProceduralDataset, categories, defects_of, example
from cops_lightning.demo.canvas import SIDE
from cops_lightning.demo.catalog import LIGHTING, OPEN_CATEGORIES, OPEN_DEFECT
from cops_lightning.demo.imaging import FIELD
from cops_lightning.demo.sampling import AREA, VISIBLE, Streams, afflict, normal_scene, render_pair

NAMES = tuple(CATEGORIES)


def digest(key: tuple[str, str, int, int]) -> tuple[bytes, bytes, str]:
    made = example(*key)
    return made.image.tobytes(), made.mask.tobytes(), made.defect


@pytest.mark.parametrize("name", NAMES)
def test_every_category_renders_normal_and_anomalous_images(name):
    normal, anomalous = example(name, "normal", 0), example(name, "anomalous", 0)
    for made in (normal, anomalous):
        assert made.image.shape == (SIDE, SIDE, 3)
        assert made.image.dtype == np.uint8
        assert made.image.std() > 2  # not blank
    assert not normal.mask.any()
    assert (normal.defect, normal.anomalous) == ("good", False)
    assert AREA[0] <= anomalous.mask.mean() <= AREA[1]
    assert anomalous.defect in {d.name for d in defects_of(CATEGORIES[name])}


@pytest.mark.parametrize("defect", tuple(DEFECTS))
def test_a_mask_is_exactly_where_the_picture_changed(defect):
    """Outside it nothing changed at all; inside, what changed is visible, but for pixels that the closing filled."""
    home = "mucosa" if defect in {"polyp", "mole"} else "terrazzo"
    for index in range(12):
        streams = Streams.of(3, home, index)
        scene = normal_scene(streams.scene, CATEGORIES[home])
        picture, mask, name = afflict(streams.defect, scene, (DEFECTS[defect],))
        change = np.abs(picture - scene.picture).max(-1)
        assert name == defect
        assert not change[~mask].any()
        visible = (change > VISIBLE).astype(np.uint8)
        closed = cv2.morphologyEx(visible, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8)).astype(bool)
        assert (closed == mask).all()


def test_an_image_does_not_depend_on_what_was_rendered_before_it():
    keys = [
        (name, role, i, 0)
        for name in ("gear", "wood", "abstract object")
        for role in ("normal", "anomalous")
        for i in (0, 5)
    ]
    forward = {key: digest(key) for key in keys}
    assert {key: digest(key) for key in reversed(keys)} == forward


def test_another_process_renders_the_same_image():
    keys = [("cable", "anomalous", 2, 0), ("brick wall", "normal", 9, 1)]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(digest, keys)) == [digest(key) for key in keys]


def test_seed_number_role_and_category_each_change_the_image():
    images = [
        example("coin", "normal", 0, 0), example("coin", "normal", 0, 1), example("coin", "normal", 1, 0),
        example("coin", "train", 0, 0), example("dice", "normal", 0, 0),
    ]  # fmt: skip
    assert len({made.image.tobytes() for made in images}) == len({made.key for made in images}) == len(images)


@pytest.mark.parametrize("name", ["leather", "capsule", "brain", "abstract texture"])
def test_far_from_the_defect_a_pair_is_identical_light_blur_and_noise_included(name):
    for index in range(6):
        pair = render_pair(0, CATEGORIES[name], index, (OPEN_DEFECT,), FIELD)
        near = cv2.dilate(pair.mask.astype(np.uint8), np.ones((15, 15), np.uint8)).astype(bool)
        assert (pair.normal[~near] == pair.anomalous[~near]).all()
        assert (pair.normal[pair.mask] != pair.anomalous[pair.mask]).any()


def auroc(normal: list[float], anomalous: list[float]) -> float:
    ranks = rankdata(normal + anomalous)
    n, a = len(normal), len(anomalous)
    return float((ranks[n:].sum() - a * (a + 1) / 2) / (n * a))


@pytest.mark.parametrize("statistic", ["brightness", "noise"])
def test_neither_brightness_nor_noise_tells_anomalous_images_apart(statistic):
    """The standard error of an AUROC of chance is sqrt((n + a + 1) / (12 n a)) = 0.037 for n = a = 120: bounds: 3.5."""

    def measure(image: np.ndarray) -> float:
        gray = image.astype(np.float32).mean(-1)
        if statistic == "brightness":
            return float(gray.mean())
        return float(np.median(np.abs(gray - cv2.GaussianBlur(gray, (0, 0), 1))))

    values = {
        role: [measure(example(c.name, role, i).image) for c in categories("test") for i in range(10)]
        for role in ("normal", "anomalous")
    }
    assert abs(auroc(values["normal"], values["anomalous"]) - 0.5) < 3.5 * 0.037


def test_harder_test_splits_have_worse_light():
    easy, medium, hard = (LIGHTING[name] for name in ("easy", "medium", "hard"))
    for field in ("gradient", "grain", "vignette", "blur"):
        assert getattr(easy, field)[1] <= getattr(medium, field)[1] <= getattr(hard, field)[1]
    assert easy.cast < medium.cast < hard.cast


def test_a_dataset_lists_normal_then_anomalous_images_of_each_category():
    data = ProceduralDataset("test", "medium", normal=2, anomalous=3)
    assert len(data) == len(data[:]) == 4 * 5
    assert [made.anomalous for made in data[:5]] == [False, False, True, True, True]
    assert {made.category for made in data[:5]} == {"leather"}
    assert len({made.key for made in data}) == len(data)
    assert data[-1].key == data[19].key
    assert set(data.categories) == {c.name for c in categories("test", "medium")}


def test_more_images_never_change_the_earlier_ones():
    small, large = (
        ProceduralDataset("auxiliary", normal=1, anomalous=1),
        ProceduralDataset("auxiliary", normal=4, anomalous=2),
    )
    assert small[0].image.tobytes() == large[0].image.tobytes()
    assert small[1].image.tobytes() == large[4].image.tobytes()


def test_difficulty_without_the_test_split_is_refused():
    with pytest.raises(DatasetError, match="Only the test split is divided by difficulty"):
        ProceduralDataset("auxiliary", "hard")


def test_an_unknown_category_is_refused():
    with pytest.raises(DatasetError, match="no procedural category 'gears'"):
        example("gears", "normal", 0)


def test_the_open_grammar_hardly_ever_repeats_itself():
    for name in OPEN_CATEGORIES:
        tones = {tuple(example(name, "normal", i).image.mean((0, 1)).round(2)) for i in range(20)}
        assert len(tones) == 20
