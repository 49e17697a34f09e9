"""Whether differences are real: plain functions over arrays, which say so where the data do not suffice."""

from cops_lightning.report.stats.bootstrap import bootstrap_iqm_difference, interquartile_mean
from cops_lightning.report.stats.images import AurocComparison, bootstrap_images, delong
from cops_lightning.report.stats.latents import VaeHealth, project, vae_health
from cops_lightning.report.stats.outcome import Outcome, format_p, state_p
from cops_lightning.report.stats.paired import Interval, Paired, compare_pairs, holm, mean_interval, pairs_needed
from cops_lightning.report.stats.ranks import RankComparison, compare_ranks, critical_difference
from cops_lightning.report.stats.shift import Shift, compare_features, frechet_distance, mmd_test, rank_correlation
from cops_lightning.report.stats.variance import VarianceComponents, variance_components

__all__ = [
    "AurocComparison",
    "Interval",
    "Outcome",
    "Paired",
    "RankComparison",
    "Shift",
    "VaeHealth",
    "VarianceComponents",
    "bootstrap_images",
    "bootstrap_iqm_difference",
    "compare_features",
    "compare_pairs",
    "compare_ranks",
    "critical_difference",
    "delong",
    "format_p",
    "frechet_distance",
    "holm",
    "interquartile_mean",
    "mean_interval",
    "mmd_test",
    "pairs_needed",
    "project",
    "rank_correlation",
    "state_p",
    "vae_health",
    "variance_components",
]
