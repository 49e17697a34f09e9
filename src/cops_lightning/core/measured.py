"""What an evaluation gives, a number a row; read where tables are, so without torch."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["image", "pixel"]
# The category of the row that averages the categories of a target.
MEAN = "mean"


@dataclass(frozen=True)
class MetricRow:
    """One number of an evaluation. `value` lies in [0, 1] and is None where the dataset does not define the metric.

    `category` is `MEAN` in the row that averages the categories of a target. Counts are images.
    """

    target: str
    category: str
    level: Level
    metric: str
    value: float | None
    n_normal: int
    n_anomalous: int
