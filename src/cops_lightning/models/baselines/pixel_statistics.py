"""Detectors of a few lines that use no language and learn nothing: a lower bound for learned methods.

They look at pixels alone; the backbone gives them only the patch grid on which every detector's maps are drawn.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8

from cops_lightning.core.types import CLIP_MEAN, CLIP_STD, Images
from cops_lightning.models.anomaly_map import Scores
from cops_lightning.models.detector import Detector


def odd_places(image: UInt8[np.ndarray, "s s 3"]) -> Float[np.ndarray, "h h"]:
    """How much each place of an RGB image differs from the rest of it: squared Mahalanobis distance, at half size.

    A place is described by mean and standard deviation of the three Lab channels over 5 x 5 pixels of the halved image.
    """
    half = cv2.resize(image.astype(np.float32) / 255, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(half, cv2.COLOR_RGB2LAB)
    mean = cv2.blur(lab, (5, 5))
    spread = np.sqrt(np.maximum(cv2.blur(lab * lab, (5, 5)) - mean * mean, 0))
    places = np.concatenate([mean, spread], 2).reshape(-1, 6)
    centred = places - places.mean(0)
    inverse = np.linalg.inv(np.cov(centred.T) + 0.5 * np.eye(6))
    odd: Float[np.ndarray, " n"] = np.einsum("ni,ij,nj->n", centred, inverse, centred)
    return odd.reshape(half.shape[:2]).astype(np.float32)


def odd_share(odd: Float[np.ndarray, "h h"]) -> float:
    """The image score of `odd_places`: the mean of its largest 2 %."""
    places = np.sort(odd, axis=None)
    return float(places[-max(1, places.size // 50) :].mean())


def rgb(images: Images) -> UInt8[np.ndarray, "b s s 3"]:
    """The pixels that preprocessed images had before they were normalised."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return ((images * std + mean) * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


class HandCrafted(Detector):
    """How odd a place is in its own image, by colour and contrast: `odd_places`, scaled into [0, 1) as x / (x + 20).

    The image score is the mean of the oddest 2 %; a patch score is the mean over the patch.
    """

    def score(
        self, images: Images, *, names: Sequence[str] | None = None, categories: Sequence[str] | None = None
    ) -> Scores:
        """Anomaly scores of images, from their pixels alone."""
        odd = [odd_places(image) for image in rgb(images)]
        image = torch.tensor([odd_share(places) for places in odd], device=images.device)
        places = torch.from_numpy(np.stack(odd))[:, None].to(images.device)
        patch = F.adaptive_avg_pool2d(places, self.expand.grid).flatten(1)
        return Scores(image=image / (image + 20), patch=patch / (patch + 20), expand=self.expand)


class Brightness(Detector):
    """Mean brightness as the anomaly score of an image and of a patch: shows where a dataset gives itself away."""

    def score(
        self, images: Images, *, names: Sequence[str] | None = None, categories: Sequence[str] | None = None
    ) -> Scores:
        """The mean of all channels, 0 to 1."""
        grey = torch.from_numpy(rgb(images)).float().mean(dim=-1)[:, None].to(images.device) / 255
        patch = F.adaptive_avg_pool2d(grey, self.expand.grid).flatten(1)
        return Scores(image=grey.mean(dim=(1, 2, 3)), patch=patch, expand=self.expand)
