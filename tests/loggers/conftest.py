"""A run and its evaluation, for loggers to show."""

import numpy as np
import pytest
from PIL import Image

from cops_lightning.core.measured import MEAN, MetricRow
from cops_lightning.loggers import Evaluation, RunInfo
from cops_lightning.metrics.curves import CategoryCurves, RankingCurves
from cops_lightning.report.figures import Example
from cops_lightning.report.tables import Run


@pytest.fixture
def run(tmp_path) -> RunInfo:
    """A run in a folder of its own."""
    folder = tmp_path / "run"
    folder.mkdir()
    return RunInfo(
        Run("abc123", "0f0f", "trial", "cops", 0, "parts"),
        targets=("tiles",),
        backbone="tiny",
        folder=folder,
        config={"study": "trial", "seed": 0, "model": {"pool": 3, "limit": None}},
    )


@pytest.fixture
def evaluation(tmp_path) -> Evaluation:
    """One target of one category, whose image AUROC is 0.75; an image with a contact sheet."""
    drawn = tmp_path / "run" / "heatmaps"
    (drawn / "tiles").mkdir(parents=True)
    for name in ("tiles.png", "tiles/square_000.png"):
        Image.fromarray(np.full((6, 8, 3), 200, dtype=np.uint8)).save(drawn / name)
    rows = [MetricRow("tiles", category, "image", "auroc", 0.75, 2, 3) for category in ("part", MEAN)]
    rows.append(MetricRow("tiles", "part", "pixel", "auroc", None, 2, 3))
    mask = np.zeros((6, 8), dtype=bool)
    mask[:3] = True
    example = Example("square/000", np.zeros((6, 8, 3), dtype=np.uint8), mask, np.full((4, 4), 0.75), 0.75, True)
    # Three quarters of the anomalous images come before the first normal one, the rest after the last.
    curves = RankingCurves(
        np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 0.75, 0.75, 1.0]), np.array([0.75, 1.0]), np.array([1.0, 0.6])
    )
    return Evaluation(rows, [CategoryCurves("tiles", "part", "image", curves)], {"tiles": [example]}, (0.0, 1.0), drawn)
