"""Detectors of a few lines that know nothing of language: what a learned method should beat before anyone is impressed.

They read RGB images, uint8 of shape (s, s, 3), and score one image at a time from that image alone.
"""

import cv2
import numpy as np
from jaxtyping import Float, UInt8


def odd_places(image: UInt8[np.ndarray, "s s 3"]) -> Float[np.ndarray, "h h"]:
    """How much each place differs from the rest of its image: squared Mahalanobis distance, 0 or more, at half size.

    A place is described by mean and standard deviation of the three Lab channels over 5 x 5 pixels of the halved image.
    """
    half = cv2.resize(image.astype(np.float32) / 255, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(half, cv2.COLOR_RGB2LAB)
    mean = cv2.blur(lab, (5, 5))
    spread = np.sqrt(np.maximum(cv2.blur(lab * lab, (5, 5)) - mean * mean, 0))
    places = np.concatenate([mean, spread], 2).reshape(-1, 6)
    centred = places - places.mean(0)
    inverse = np.linalg.inv(np.cov(centred.T) + 0.5 * np.eye(6))
    odd = np.einsum("ni,ij,nj->n", centred, inverse, centred)
    return odd.reshape(half.shape[:2]).astype(np.float32)


def odd_share(odd: Float[np.ndarray, "h h"]) -> float:
    """The image score of `odd_places`: the mean of its largest 2 %."""
    places = np.sort(odd, axis=None)
    return float(places[-max(1, places.size // 50) :].mean())


def brightness(image: UInt8[np.ndarray, "s s 3"]) -> float:
    """Mean of all channels, from 0 to 1."""
    return float(image.mean() / 255)
