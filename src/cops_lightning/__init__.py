"""CoPS, conditional prompt synthesis for zero-shot anomaly detection (arXiv 2508.03447).

    import cops_lightning as cl

    module = cl.CopsModule(backbone="mini")
    trainer.fit(module, datamodule=cl.VisA("data/visa"))
    trainer.test(module, datamodule=cl.BTAD("data/btad"))
    for found in cl.load("last.ckpt").predict("photos"): ...

Everything is imported when it is first used.
"""

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cops_lightning.calibration.calibration import Calibration
    from cops_lightning.core.errors import CopsError, DatasetError
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
        MVTecAD,
        VisA,
    )
    from cops_lightning.data.dataset import preprocess
    from cops_lightning.data.readers.images import ReadingError
    from cops_lightning.data.stream import Unreadable
    from cops_lightning.demo.datamodules import Rendered
    from cops_lightning.models.adaclip.model import AdaCLIP
    from cops_lightning.models.anomalyclip.model import AnomalyCLIP
    from cops_lightning.models.bayes_pfl.model import BayesPFL
    from cops_lightning.models.cops.model import CoPS
    from cops_lightning.models.detector import Detector
    from cops_lightning.models.load import load
    from cops_lightning.models.module import CopsModule

# Where public names are that are not among the data modules.
_HOMES = {
    "Rendered": "cops_lightning.demo.datamodules",
    "AdaCLIP": "cops_lightning.models.adaclip.model",
    "AnomalyCLIP": "cops_lightning.models.anomalyclip.model",
    "Calibration": "cops_lightning.calibration.calibration",
    "BayesPFL": "cops_lightning.models.bayes_pfl.model",
    "CoPS": "cops_lightning.models.cops.model",
    "CopsError": "cops_lightning.core.errors",
    "CopsModule": "cops_lightning.models.module",
    "DatasetError": "cops_lightning.core.errors",
    "Detector": "cops_lightning.models.detector",
    "ReadingError": "cops_lightning.data.readers.images",
    "Unreadable": "cops_lightning.data.stream",
    "load": "cops_lightning.models.load",
    "preprocess": "cops_lightning.data.dataset",
}

__version__ = version("cops_lightning")
__all__ = [
    "BTAD",
    "ISIC",
    "MPDD",
    "AdaCLIP",
    "AnomalyCLIP",
    "AnomalyDataModule",
    "BayesPFL",
    "Br35H",
    "BrainMRI",
    "CVCClinicDB",
    "CVCColonDB",
    "Calibration",
    "CoPS",
    "CopsDataModule",
    "CopsError",
    "CopsModule",
    "DTDSynthetic",
    "DatasetError",
    "Detector",
    "Endo",
    "Folder",
    "HeadCT",
    "ImageFolder",
    "Kvasir",
    "MVTecAD",
    "ReadingError",
    "Rendered",
    "Unreadable",
    "VisA",
    "__version__",
    "load",
    "preprocess",
]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first asked for: torch and Lightning take seconds."""
    if name in __all__:
        return getattr(importlib.import_module(_HOMES.get(name, "cops_lightning.data.datamodules")), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, for completion in a notebook."""
    return __all__
