import numpy as np
import pytest

from cops_lightning.metrics.regions import RegionAccumulator, region_weights


def test_a_pixel_weighs_one_over_the_area_of_its_region():
    mask = np.array(
        [
            [1, 1, 0, 0],
            [1, 0, 0, 1],
            [0, 0, 0, 1],
            [0, 0, 0, 0],
        ],
        dtype=bool,
    )
    assert region_weights(mask).tolist() == [1 / 3, 1 / 3, 1 / 3, 1 / 2, 1 / 2]


def test_pixels_that_touch_at_a_corner_are_one_region():
    assert region_weights(np.eye(4, dtype=bool)).tolist() == [1 / 4] * 4


def test_a_mask_without_anomalies_has_no_weights():
    assert region_weights(np.zeros((3, 3), dtype=bool)).size == 0


def test_the_area_is_cut_at_the_limit_by_interpolation():
    # One region, ten normal pixels, all eleven scores equal: the curve is the straight line PRO = FPR.
    regions = RegionAccumulator(n_normal=10, fpr_limit=0.25)
    regions.extend(above=np.array([0]), reached=np.array([10]), weights=np.array([1.0]))
    assert regions.result() == pytest.approx((0.25**2 / 2) / 0.25)


def test_beyond_the_last_anomalous_score_everything_is_covered():
    # The region is found before any normal pixel, so the curve is 1 from the start.
    regions = RegionAccumulator(n_normal=10)
    regions.extend(above=np.array([0, 0]), reached=np.array([0, 0]), weights=np.array([0.5, 0.5]))
    assert regions.result() == pytest.approx(1)


def test_what_is_found_after_the_limit_does_not_count():
    # Half a region is found at FPR 0, the other half at FPR 0.8 > 0.3.
    regions = RegionAccumulator(n_normal=10)
    regions.extend(above=np.array([0, 8]), reached=np.array([0, 8]), weights=np.array([0.5, 0.5]))
    assert regions.result() == pytest.approx(0.5)


def test_aupro_is_undefined_without_normal_pixels_or_regions():
    with pytest.raises(ValueError, match="needs normal pixels, got 0"):
        RegionAccumulator(n_normal=0)
    with pytest.raises(ValueError, match="needs at least one region, got none"):
        RegionAccumulator(n_normal=5).result()
