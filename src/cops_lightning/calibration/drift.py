"""Whether images that are scored look like those of the calibration, by the frozen encoder's global features.

Half of the calibration's images fit a model of the features, a mean and principal components with noise around them
(Tipping and Bishop, Probabilistic principal component analysis, 1999); the other half, and every image that is scored,
have a distance from it. While nothing moves, the distances of both are exchangeable, whatever the features are like.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy import stats

FEWEST = 20  # images of a calibration that is compared with: half of them fit, half are the reference
MOST_COMPONENTS = 16
DIGITS = 7  # of what is kept
WINDOW = 50
FEWEST_IN_WINDOW = 8  # at the end of a stream
RISK = 0.01


@dataclass(frozen=True)
class FeatureReference:
    """The model of unit features, and the distances of images that it was not fitted to.

    Args:
        mean: of the features, one number per dimension.
        components: principal components, unit vectors.
        variances: along the components.
        noise: the variance along every other direction, above 0.
        distances: squared Mahalanobis distances, ascending.
    """

    mean: tuple[float, ...]
    components: tuple[tuple[float, ...], ...]
    variances: tuple[float, ...]
    noise: float
    distances: tuple[float, ...]

    @classmethod
    def fit(cls, features: Float[np.ndarray, "n d"]) -> "FeatureReference | None":
        """From the global features of normal images in an order that says nothing of them.

        None for fewer than `FEWEST` images, and for features that do not differ or are not finite.
        """
        if len(features) < FEWEST or not np.isfinite(features).all():
            return None
        unit = _unit(features)
        fitted, held_out = unit[::2], unit[1::2]
        mean = fitted.mean(axis=0)
        _, singular, axes = np.linalg.svd(fitted - mean, full_matrices=False)
        variances = singular**2 / (len(fitted) - 1)
        count = min(MOST_COMPONENTS, len(fitted) // 3, len(mean) - 1)
        noise = float(variances[count:].sum() / (len(mean) - count))
        if noise <= 1e-12:
            return None
        model = cls(_kept(mean), tuple(map(_kept, axes[:count])), _kept(variances[:count]), _kept(noise)[0], ())
        return replace(model, distances=_kept(np.sort(model.distance(held_out))))

    def distance(self, features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """Squared Mahalanobis distances of features from the model."""
        away = _unit(features) - np.array(self.mean)
        along = away @ np.array(self.components).T
        rest = (away**2).sum(axis=1) - (along**2).sum(axis=1)
        return np.asarray((along**2 / np.array(self.variances)).sum(axis=1) + rest.clip(0) / self.noise)

    def distance_of(self, feature: Float[np.ndarray, " d"]) -> float:
        """That of one image, as it is kept."""
        return _kept(self.distance(feature[None]))[0]


@dataclass(frozen=True)
class Drift:
    """The window of images by which a stream was found to have moved, and the evidence.

    `p` is that of the two-sample test of Kolmogorov and Smirnov, whose statistic is the largest difference between the
    shares of images within any distance; `spent` is the level that it was compared with.
    """

    first: str
    last: str
    images: int
    statistic: float
    p: float
    spent: float
    distance: float
    reference: float

    def __str__(self) -> str:
        return (
            f"The images have moved away from those of the calibration, so its false-alarm rate need not hold: of the "
            f"{self.images} images from {self.first} to {self.last} the features lie at a median distance of "
            f"{_figure(self.distance)}, those of the calibration at {_figure(self.reference)} (Kolmogorov-Smirnov "
            f"statistic {self.statistic:.2f}, p = {self.p:.1g}, below the {self.spent:.1g} that this window may "
            "spend). Look at camera, light and parts, or calibrate anew."
        )


class DriftWatch:
    """Compares a stream with a calibration, a window of images at a time, until it is found to have moved.

    The k-th window is tested at the level `risk` * 6 / (pi k)^2. These add up to `risk`, so that an unmoved stream is
    called moved with a probability of at most `risk`, however long it is.

    Args:
        reference: of the calibration.
        window: images that are tested together.
        risk: the probability of an alarm that is accepted over the whole stream.
    """

    def __init__(self, reference: FeatureReference, window: int = WINDOW, risk: float = RISK) -> None:
        self.reference, self.window, self.risk = reference, window, risk
        self.windows = 0
        self.found: Drift | None = None
        self._names: list[str] = []
        self._distances: list[float] = []

    def add(self, name: str, distance: float) -> Drift | None:
        """Take the next image of the stream, by its distance from the model of `reference`; a drift where it completes
        the window that shows one.
        """
        if self.found is not None:
            return None
        self._names.append(name)
        self._distances.append(distance)
        return self._test() if len(self._names) == self.window else None

    def close(self) -> Drift | None:
        """Test what the stream ended with, where it suffices."""
        return self._test() if self.found is None and len(self._names) >= FEWEST_IN_WINDOW else None

    def _test(self) -> Drift | None:
        self.windows += 1
        spent = float(self.risk * 6 / (np.pi * self.windows) ** 2)
        names, expected = self._names, self.reference.distances
        distances = np.array(self._distances)
        test = stats.ks_2samp(distances, expected, method="exact" if len(expected) <= 10_000 else "asymp")
        self._names, self._distances = [], []
        if test.pvalue > spent:
            return None
        medians = float(np.median(distances)), float(np.median(expected))
        statistic, p = float(test.statistic), float(test.pvalue)
        self.found = Drift(names[0], names[-1], len(names), statistic, p, spent, *medians)
        return self.found


def _unit(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    wide = np.asarray(features, np.float64)
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12))


def _figure(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"  # not 5.29e+03


def _kept(values: Float[np.ndarray, "*n"] | float) -> tuple[float, ...]:
    return tuple(float(f"{value:.{DIGITS}g}") for value in np.atleast_1d(values))
