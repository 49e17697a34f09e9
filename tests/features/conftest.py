from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cops_lightning.features import Entry, FeatureKey, FeatureStore

KEY = FeatureKey("0" * 64, "version 1, QuickGELU", 48, 1, "fp32", "fp32", patches=6, width=4)
NAMES = tuple(f"{number:032x}" for number in range(4))


@pytest.fixture
def make_store(tmp_path: Path) -> Callable[..., FeatureStore]:
    """A store below one root, its key changed as asked, filled with random features under these names."""

    def make(names: tuple[str, ...] = (), **changes) -> FeatureStore:
        store = FeatureStore(tmp_path / "features", replace(KEY, **changes))
        store.create()
        for name in names:
            store.write(name, Entry(torch.randn(4), torch.randn(6, 4), name))
        return store

    return make
