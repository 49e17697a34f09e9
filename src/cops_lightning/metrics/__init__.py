"""Image and pixel metrics: exact, streaming, and in memory that a full test set fits into."""

from cops_lightning.metrics.pixels import PixelScores, pixel_scores
from cops_lightning.metrics.ranking import RankingScores, ranking_scores
from cops_lightning.metrics.suite import MetricSuite

__all__ = ["MetricSuite", "PixelScores", "RankingScores", "pixel_scores", "ranking_scores"]
