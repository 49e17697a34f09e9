"""The metrics of a report and how people write them. Light, so that a command's help can list them."""

Metric = tuple[str, str]  # level (image or pixel) and metric

NAMES = {"auroc": "AUROC", "ap": "AP", "f1_max": "F1-max", "aupro": "AUPRO"}
METRICS: tuple[Metric, ...] = (
    *(("image", metric) for metric in ("auroc", "ap", "f1_max")),
    *(("pixel", metric) for metric in NAMES),
)
# What methods are compared in unless said otherwise.
DEFAULT_METRICS: tuple[Metric, ...] = (("image", "auroc"), ("pixel", "auroc"), ("pixel", "aupro"))


def metric_name(metric: Metric) -> str:
    """The metric with its level in front: image AUROC."""
    return f"{metric[0]} {NAMES.get(metric[1], metric[1])}"
