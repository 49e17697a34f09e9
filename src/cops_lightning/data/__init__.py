"""Datasets on disk to checked samples, and samples to tensors.

`MVTecAD`, `VisA` and the other published datasets are Lightning data modules; so are `Folder` (own data), `ImageFolder`
(images without labels) and `CopsDataModule` (one dataset to train on and many to test on). `load_index` finds a dataset
by name or path and pairs its files; `AnomalyDataset` and `collate` make batches of it.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cops_lightning.core.types import CLIP_MEAN, CLIP_STD
    from cops_lightning.data.catalog import BENCHMARK, CATALOG, GROUPS, expand_targets, find_spec
    from cops_lightning.data.corruption import Corruption
    from cops_lightning.data.datamodules import (
        BTAD,
        ISIC,
        MPDD,
        AnomalyDataModule,
        Br35H,
        BrainMRI,
        CopsDataModule,
        CVCClinicDB,
        CVCColonDB,
        DTDSynthetic,
        Endo,
        Folder,
        HeadCT,
        ImageFolder,
        Kvasir,
        MagneticTile,
        MVTecAD,
        VisA,
        find_data_module,
    )
    from cops_lightning.data.dataset import (
        PREPROCESSING_VERSION,
        AnomalyDataset,
        Augment,
        Item,
        MaskThreshold,
        Preprocess,
        collate,
        loader,
        normalise,
    )
    from cops_lightning.data.protocol import require_unseen
    from cops_lightning.data.readers.images import read_image, read_mask
    from cops_lightning.data.readers.index import DatasetIndex
    from cops_lightning.data.readers.index_file import read_index, write_index
    from cops_lightning.data.readers.resolve import load_index
    from cops_lightning.data.readers.spec import Counts, DatasetSpec, Domain, Folders, Table

# Where the names are, the light modules first: torch and Lightning take seconds, and a catalogue needs neither.
_MODULES = (
    "catalog",
    "readers.spec",
    "readers.images",
    "readers.index",
    "readers.index_file",
    "readers.resolve",
    "corruption",
    "dataset",
    "protocol",
    "datamodules",
)

__all__ = [
    "BENCHMARK",
    "BTAD",
    "CATALOG",
    "CLIP_MEAN",
    "CLIP_STD",
    "GROUPS",
    "ISIC",
    "MPDD",
    "PREPROCESSING_VERSION",
    "AnomalyDataModule",
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
    "Folder",
    "Folders",
    "HeadCT",
    "ImageFolder",
    "Item",
    "Kvasir",
    "MVTecAD",
    "MagneticTile",
    "MaskThreshold",
    "Preprocess",
    "Table",
    "VisA",
    "collate",
    "expand_targets",
    "find_data_module",
    "find_spec",
    "load_index",
    "loader",
    "normalise",
    "preprocess",
    "read_image",
    "read_index",
    "read_mask",
    "require_unseen",
    "write_index",
]


def __getattr__(name: str) -> Any:
    """A name is imported when it is first asked for."""
    if name in __all__:
        for module in _MODULES:
            found = importlib.import_module(f"{__name__}.{module}")
            if hasattr(found, name):
                return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
