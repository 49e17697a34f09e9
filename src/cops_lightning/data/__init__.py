"""Datasets on disk to checked samples, and samples to tensors.

`load_index` finds a dataset by name or path and pairs its files; `AnomalyDataset` and `collate` make batches of it.
`CopsDataModule` serves one auxiliary dataset and many targets to Lightning; `MVTecAD`, `VisA` and the other eleven are
such modules of one published dataset each.
"""

import importlib
from typing import TYPE_CHECKING, Any

from cops_lightning.core.types import CLIP_MEAN, CLIP_STD
from cops_lightning.data.catalog import BENCHMARK, CATALOG, find_spec
from cops_lightning.data.corruption import Corruption
from cops_lightning.data.dataset import (
    PREPROCESSING_VERSION,
    AnomalyDataset,
    Augment,
    Item,
    MaskThreshold,
    Preprocess,
    StreamedDataset,
    collate,
    loader,
    normalise,
    preprocess,
)
from cops_lightning.data.readers.images import read_image, read_mask
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.data.readers.index_file import read_index, stream_samples, write_index
from cops_lightning.data.readers.resolve import load_index
from cops_lightning.data.readers.spec import Counts, DatasetSpec, Domain, Folders, Table

if TYPE_CHECKING:
    from cops_lightning.data.datamodules import (
        BTAD,
        ISIC,
        MPDD,
        Br35H,
        BrainMRI,
        CopsDataModule,
        CVCClinicDB,
        CVCColonDB,
        DTDSynthetic,
        Endo,
        HeadCT,
        Kvasir,
        MVTecAD,
        PublishedDataset,
        VisA,
    )

__all__ = [
    "BENCHMARK",
    "BTAD",
    "CATALOG",
    "CLIP_MEAN",
    "CLIP_STD",
    "ISIC",
    "MPDD",
    "PREPROCESSING_VERSION",
    "AnomalyDataset",
    "Augment",
    "Br35H",
    "BrainMRI",
    "CVCClinicDB",
    "CVCColonDB",
    "CopsDataModule",
    "Corruption",
    "Counts",
    "DTDSynthetic",
    "DatasetIndex",
    "DatasetSpec",
    "Domain",
    "Endo",
    "Folders",
    "HeadCT",
    "Item",
    "Kvasir",
    "MVTecAD",
    "MaskThreshold",
    "Preprocess",
    "PublishedDataset",
    "StreamedDataset",
    "Table",
    "VisA",
    "collate",
    "find_spec",
    "load_index",
    "loader",
    "normalise",
    "preprocess",
    "read_image",
    "read_index",
    "read_mask",
    "stream_samples",
    "write_index",
]


def __getattr__(name: str) -> Any:
    """The data modules, imported when first asked for: Lightning takes seconds, and most users of data need none."""
    if name in __all__:
        return getattr(importlib.import_module("cops_lightning.data.datamodules"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
