"""How long the work takes, beside a plain implementation of the released program's way of doing it."""

WORK_NAMES = (
    *("encode", "prompts", "train-epoch", "evaluate", "predict", "metrics"),
    *("anomalyclip-train", "anomalyclip-score", "bayes-pfl-train", "bayes-pfl-score"),
)
