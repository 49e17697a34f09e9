"""What an image is, and on what it depends."""

from concurrent.futures import ProcessPoolExecutor

import cv2
import numpy as np
import pytest
from scipy.stats import rankdata

from commands import FORKS
from cops_lightning.core.errors import DatasetError
from cops_lightning.demo.canvas import SIDE
from cops_lightning.demo.catalog import CATEGORIES, DEFECTS, categories, defects_of
from cops_lightning.demo.images import AREA, LIGHTING, VISIBLE, Streams, afflict, example, normal_scene


def digest(key: tuple[str, str, int, int]) -> tuple[bytes, bytes, str]:
    made = example(*key)
    return made.image.tobytes(), made.mask.tobytes(), made.defect


@pytest.mark.parametrize("name", tuple(CATEGORIES))
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
    home = "skin" if defect == "mole" else "leather"
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
        (name, role, i, 0) for name in ("gear", "wicker", "skin") for role in ("normal", "anomalous") for i in (0, 5)
    ]
    forward = {key: digest(key) for key in keys}
    assert {key: digest(key) for key in reversed(keys)} == forward


@pytest.mark.slow
def test_another_process_renders_the_same_image():
    keys = [("cable", "anomalous", 2, 0), ("brick wall", "normal", 9, 1)]
    with ProcessPoolExecutor(1, mp_context=FORKS) as pool:
        assert list(pool.map(digest, keys)) == [digest(key) for key in keys]


def test_seed_number_role_and_category_each_change_the_image():
    images = [
        example("coin", "normal", 0, 0), example("coin", "normal", 0, 1), example("coin", "normal", 1, 0),
        example("coin", "train", 0, 0), example("dice", "normal", 0, 0),
    ]  # fmt: skip
    assert len({made.image.tobytes() for made in images}) == len({made.key for made in images}) == len(images)


def auroc(normal: list[float], anomalous: list[float]) -> float:
    ranks = rankdata(normal + anomalous)
    n, a = len(normal), len(anomalous)
    return float((ranks[n:].sum() - a * (a + 1) / 2) / (n * a))


@pytest.mark.slow
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


def test_an_unknown_category_is_refused():
    with pytest.raises(DatasetError, match="no procedural category 'gears'"):
        example("gears", "normal", 0)
