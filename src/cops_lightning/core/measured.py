"""What an evaluation gives, a number a row; read where tables are, so without torch."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["image", "pixel"]
# The category of the row that averages the categories of a target.
MEAN = "mean"


@dataclass(frozen=True)
class MetricRow:
    """One number of an evaluation.

    Args:
        target: The dataset that was tested on.
        category: Of the images; "mean" in the row that averages the categories of a target.
        level: Whether images or pixels are told apart.
        metric: What was computed.
        value: In [0, 1]; None (an empty cell) where the dataset does not define the metric.
        n_normal: Normal images that it is of.
        n_anomalous: Anomalous ones.
    """

    target: str
    category: str
    level: Level
    metric: str
    value: float | None
    n_normal: int
    n_anomalous: int
