"""What was trained on is not tested on."""

from pathlib import Path

import pytest

from cops_lightning.core.errors import ProtocolError
from cops_lightning.core.types import Sample
from cops_lightning.data import DatasetIndex
from cops_lightning.data.protocol import require_unseen, trained_categories


def index(name: str) -> DatasetIndex:
    """A dataset with the category x and one normal and one anomalous image; the files need not exist."""
    samples = tuple(
        Sample(
            name, "x", "test", "d", Path("/data", name, f"{anomalous}.png"), None, anomalous, f"{name}/x/{anomalous}"
        )
        for anomalous in (False, True)
    )
    return DatasetIndex(name, Path("/data", name), "made by the test", (), samples, has_masks=False)


def test_targets_with_trained_categories_are_refused_by_name():
    auxiliary = index("a")
    with pytest.raises(ProtocolError, match=r"a is not zero-shot: its categories a/x.*evaluate_seen=\[a\]"):
        require_unseen([index("b"), auxiliary], trained_categories(auxiliary), auxiliary, [])
    require_unseen([auxiliary], trained_categories(auxiliary), auxiliary, ["a"])


def test_the_same_files_under_another_name_are_refused():
    auxiliary = index("a")
    renamed = DatasetIndex("b", auxiliary.root, "", (), auxiliary.test, has_masks=False)
    with pytest.raises(ProtocolError, match="b is not zero-shot: 2 of its images were trained on"):
        require_unseen([renamed], (), auxiliary, [])
