"""Whether a stream is like the images of a calibration: no alarm while it is, one with evidence when it is not."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.decomposition import PCA

from cops_lightning.calibration import DriftWatch
from cops_lightning.calibration.drift import FEWEST, FeatureReference

D = 24
SPREAD = np.linspace(2, 0.2, D)


def features(rng: np.random.Generator, n: int, moved: float = 0.0) -> np.ndarray:
    """Features around a common direction, more spread along some axes, as an encoder's are."""
    return 5 + SPREAD * rng.normal(size=(n, D)) + moved * (np.arange(D) % 5 == 0)


def watched(rng: np.random.Generator, calibrated: int, stream: np.ndarray, **options) -> DriftWatch:
    watch = DriftWatch(FeatureReference.fit(features(rng, calibrated)), **options)
    for number, feature in enumerate(stream):
        watch.add(f"{number}.png", watch.reference.distance_of(feature))
    watch.close()
    return watch


def test_the_distance_is_the_one_of_probabilistic_principal_components():
    given = features(np.random.default_rng(0), 60)
    unit = given / np.linalg.norm(given, axis=1, keepdims=True)
    found = FeatureReference.fit(given)
    known = PCA(n_components=len(found.components)).fit(unit[::2])
    away = unit[1::2] - known.mean_
    # scikit-learn averages the noise over as many directions as 30 images span; all others count here too.
    assert np.allclose(
        np.abs(np.array(found.components) @ known.components_.T), np.eye(len(found.components)), atol=1e-4
    )
    assert found.variances == pytest.approx(known.explained_variance_, rel=1e-5)
    assert found.noise == pytest.approx(known.noise_variance_, rel=1e-4)
    known.noise_variance_ = found.noise
    mahalanobis = np.einsum("ni,ij,nj->n", away, known.get_precision(), away)
    assert found.distances == pytest.approx(np.sort(mahalanobis), rel=1e-4)


@pytest.mark.slow
def test_a_long_stream_that_does_not_move_is_seldom_called_moved():
    alarms = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        alarms += watched(rng, 40, features(rng, 300), window=20, risk=0.2).found is not None
    assert alarms <= 0.2 * 60 + 2.33 * np.sqrt(60 * 0.2 * 0.8)
    assert alarms > 0, "so that the bound is one"


def test_a_stream_that_moves_is_found_where_it_moves_and_the_evidence_is_said_once():
    rng = np.random.default_rng(0)
    watch = watched(rng, 100, np.concatenate([features(rng, 400), features(rng, 200, moved=4)]))
    assert watch.found is not None
    assert watch.found.first in ("400.png", "450.png")
    assert watch.found.p <= watch.found.spent < 0.01
    assert watch.found.distance > watch.found.reference
    assert watch.windows <= 10, "nothing is tested any more"
    said = str(watch.found)
    assert f"of the 50 images from {watch.found.first} to {watch.found.last}" in said
    assert "Kolmogorov-Smirnov statistic" in said
    far = replace(watch.found, distance=5294.0, reference=439.04)
    assert "at a median distance of 5294, those of the calibration at 439 (" in str(far)


def test_a_stream_that_becomes_one_single_image_has_moved_too():
    rng = np.random.default_rng(0)
    middle = features(rng, 2000).mean(axis=0)  # nearer than any image: the camera shows nothing any more
    assert watched(rng, 100, np.tile(middle, (100, 1))).found is not None


def test_a_short_stream_is_tested_at_its_end_and_a_very_short_one_never():
    rng = np.random.default_rng(0)
    assert watched(rng, 100, features(rng, 20, moved=4)).found.images == 20
    assert watched(rng, 100, features(rng, 7, moved=4)).windows == 0


def test_too_few_images_or_features_without_a_difference_make_no_reference():
    rng = np.random.default_rng(0)
    assert FeatureReference.fit(features(rng, FEWEST - 1)) is None
    assert FeatureReference.fit(features(rng, FEWEST)) is not None
    assert FeatureReference.fit(np.ones((50, D))) is None
    assert FeatureReference.fit(np.full((50, D), np.nan)) is None
