"""The rendered datasets as LightningDataModules."""

from pathlib import Path
from typing import Literal, Unpack

from cops_lightning.core.errors import ConfigError, DatasetError
from cops_lightning.core.files import cache_folder
from cops_lightning.core.near_miss import did_you_mean
from cops_lightning.data.datamodules import DataSettings, OneDataset
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.data.readers.resolve import load_index
from cops_lightning.demo.images import VERSION
from cops_lightning.demo.writer import DATASETS, write_mvtec

RenderedName = Literal["procedural_auxiliary", "procedural_easy", "procedural_medium", "procedural_hard"]


class Rendered(OneDataset):
    """A procedural dataset, rendered into the cache the first time that it is asked for.

    Its test split has 50 normal and 100 anomalous images per category, with masks; see `cops_lightning.demo`.

    Args:
        name: of the dataset.
        cache: the folder to render into; default: the environment variable COPS_CACHE, else ~/.cache/cops_lightning.

    The others are those of `AnomalyDataModule`. Raises ConfigError for an unknown name.
    """

    def __init__(
        self,
        name: RenderedName,
        *,
        cache: str | Path | None = None,
        **settings: Unpack[DataSettings],
    ) -> None:
        super().__init__(**settings)
        if name not in DATASETS:
            raise ConfigError(
                f"There is no rendered dataset '{name}'.{did_you_mean(name, DATASETS)} "
                f"Known ones: {', '.join(DATASETS)}."
            )
        self.rendered, self.cache = name, cache

    def places(self) -> list[Path]:
        """The folder that is rendered into."""
        return [cache_folder(self.cache) / f"procedural-{VERSION}" / self.rendered]

    def _index(self) -> DatasetIndex:
        (folder,) = self.places()
        if not folder.is_dir():
            try:
                write_mvtec(folder, DATASETS[self.rendered])
            except (OSError, DatasetError):
                # Another process that needed the same images may have been quicker.
                if not folder.is_dir():
                    raise
        return load_index(folder)
