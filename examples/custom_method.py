"""A detector of one's own in a notebook: 20 lines, then everything that the library has for detectors works with it.

    python examples/custom_method.py

For the command line, a YAML file beside the class makes it `model=mine`: examples/own.
"""

from collections.abc import Sequence

import torch
from lightning import Trainer

import cops_lightning as cl
from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.core.types import Features
from cops_lightning.models.anomaly_map import Scores
from cops_lightning.models.detector import FeatureDetector


class Rarity(FeatureDetector):
    """A patch is as anomalous as its nearest other patches of the same image are far.

    Args:
        backbone: the frozen CLIP.
        neighbours: how many of the nearest are averaged.
    """

    def __init__(self, backbone: FrozenClip, neighbours: int = 8) -> None:
        super().__init__(backbone)
        self.neighbours = neighbours

    def score_features(
        self, features: Features, *, names: Sequence[str], categories: Sequence[str] | None = None
    ) -> Scores:
        """Scores in [0, 1]: half of one minus the mean cosine with the nearest patches, itself left out."""
        patches = torch.nn.functional.normalize(features.patches, dim=-1)  # (b, p, d)
        cosines = patches @ patches.mT - 2 * torch.eye(patches.shape[1])
        nearest = cosines.topk(self.neighbours, dim=-1).values.mean(dim=-1)
        rare = ((1 - nearest) / 2).clamp(0, 1)  # (b, p)
        return Scores(image=rare.amax(dim=1), patch=rare, expand=self.expand)


def main(images: int = 200) -> dict[str, dict[str, float]]:
    """Metrics of the detector and of hand-written prompts on the same images."""
    backbone = cl.CopsModule("clip", "mini").model.backbone
    trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)
    found = {}
    for name, model in (("rarity", Rarity(backbone)), ("prompts", "clip")):
        module = cl.CopsModule(model, None if name == "rarity" else "mini")
        (found[name],) = trainer.test(module, datamodule=cl.Rendered("procedural_easy", limit=images), verbose=False)
        print(name, {metric: round(value, 3) for metric, value in found[name].items() if "auroc" in metric})
    return found


if __name__ == "__main__":
    main()
