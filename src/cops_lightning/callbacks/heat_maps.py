"""Heat maps of the tested images, as pictures in the run folder."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from annotated_types import Ge
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from cops_lightning.callbacks.run import RunCallback
from cops_lightning.core.errors import ConfigError
from cops_lightning.core.names import file_name
from cops_lightning.core.types import category_key
from cops_lightning.data.datamodules import AnomalyDataModule
from cops_lightning.data.dataset import AnomalyDataset
from cops_lightning.data.readers.images import Orientation, read_image
from cops_lightning.models.module import CopsModule, ScoredImage
from cops_lightning.report.figures import Example, choose_examples, save_contact_sheet, save_heat_map

log = logging.getLogger(__name__)
SHOWN_SIDE = 512  # longest side of the image in a heat map, in pixels: as much as a figure shows


class HeatMaps(RunCallback, Callback):
    """Draws heatmaps/TARGET/*.png and a contact sheet heatmaps/TARGET.png once all targets are tested.

    Args:
        folder: below which heatmaps/ is made; default: the trainer's root folder.
        count: heat maps per target, a third of them of normal images.
        scale_min: the score at the lower end of the one colour scale of all.
        scale_max: the score at its upper end. Raises ConfigError if it is not above the lower one.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        count: Annotated[int, Ge(0)] = 12,
        scale_min: float = 0.0,
        scale_max: float = 1.0,
    ) -> None:
        if scale_max <= scale_min:
            raise ConfigError(f"scale_max is {scale_max} and scale_min {scale_min}; expected a scale that goes up.")
        self.folder, self.count, self.scale = folder, count, (scale_min, scale_max)
        self.examples: dict[str, list[Example]] = {}

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw. The numbers are safe by now, so what cannot be drawn is a warning."""
        assert isinstance(pl_module, CopsModule)
        self.examples = {}
        data = trainer.datamodule  # type: ignore[attr-defined]
        images = pl_module.images_of_all()
        if not trainer.is_global_zero or self.count == 0 or not isinstance(data, AnomalyDataModule):
            return
        for target, scored in zip(data.targets, images, strict=True):
            folder = self.drawn(trainer) / file_name(target.name)
            try:
                self.examples[target.name] = self._draw(folder, data.dataset(target), scored, pl_module)
            except Exception:
                log.warning("The heat maps of %s could not be drawn", target.name, exc_info=True)

    def drawn(self, trainer: Trainer) -> Path:
        """The folder of the pictures."""
        return self.folder_of(trainer) / "heatmaps"

    def _draw(
        self, folder: Path, dataset: AnomalyDataset, images: Sequence[ScoredImage], module: CopsModule
    ) -> list[Example]:
        """A third of the heat maps for normal images, the rest for anomalous ones, and beside the folder a sheet."""
        normal = self.count // 3
        chosen = choose_examples([bool(image.sample.anomalous) for image in images], normal, self.count - normal)
        # The ground truth that is shown is the one that was scored: the same threshold and size.
        examples = [_example(images[i], dataset[i].mask, dataset.preprocess.orientation, module) for i in chosen]
        low, high = self.scale
        flat = Counter(example.name.replace("/", "_") for example in examples)
        for example in examples:
            name = example.name.replace("/", "_")
            save_heat_map(folder / f"{file_name(name if flat[name] == 1 else example.name)}.png", example, low, high)
        save_contact_sheet(folder.with_name(f"{folder.name}.png"), examples, dataset.name, low, high)
        return examples


def _example(image: ScoredImage, mask: Tensor | None, orientation: Orientation, module: CopsModule) -> Example:
    sample = image.sample
    shown = read_image(sample.image, orientation)
    shown.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    with torch.no_grad():
        pixels = module.model.expand(image.patches[None])[0].numpy()
    name = sample.key.removeprefix(f"{category_key(sample.dataset, sample.category)}/").rsplit(".", 1)[0]
    truth = None if mask is None else mask.bool().numpy()
    return Example(name, np.asarray(shown), truth, pixels, image.score, bool(sample.anomalous))
