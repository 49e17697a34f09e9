"""Golden cases: tensors that the authors' released programs produced on small random weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from conftest import SHARED
from cops_lightning.core.types import StateDict
from cops_lightning.models.detector import TrainableDetector


@dataclass
class Golden:
    """One case of a peer: sizes, and arrays as fp32 tensors."""

    folder: Path
    method: ClassVar[type[TrainableDetector]]
    options: ClassVar[tuple[str, ...]]
    """Arguments of the method that case.json states."""

    def model(self, weights: Path | StateDict | None = None) -> TrainableDetector:
        """The method over the case's CLIP, by default with the case's checkpoint."""
        file = weights or self.folder / "checkpoint.pth"
        return self.method.from_released(self.arrays("clip"), file, **{name: self.sizes[name] for name in self.options})

    def drawn(self, arrays: dict[str, Tensor], mode: str) -> dict[str, Tensor]:
        """Its draws of a mode, infer or train."""
        return {name: arrays[name] for name in self.sizes["draws"][mode]}

    @property
    def sizes(self) -> dict:
        return json.loads((self.folder / "case.json").read_text())

    def arrays(self, name: str) -> dict[str, Tensor]:
        loaded = np.load(self.folder / f"{name}.npz")
        return {
            key: torch.from_numpy(value if value.dtype == np.int64 else value.astype(np.float32))
            for key, value in loaded.items()
        }


def cases_of(peer: str) -> list[str]:
    """The names of a peer's cases, which lie beside the checkout."""
    return sorted(path.name for path in (SHARED / "peers" / peer / "golden").glob("*")) or ["small"]


def folder_of(peer: str, case: str) -> Path:
    """Where a case of a peer lies; skips the test where it does not."""
    folder = SHARED / "peers" / peer / "golden" / case
    if not folder.is_dir():
        pytest.skip(f"the golden case {case} of {peer} is not beside this checkout")
    return folder


def close(got: Tensor, expected: Tensor, atol: float = 1e-4) -> None:
    torch.testing.assert_close(got, expected, atol=atol, rtol=0)


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).norm() / expected.norm())
