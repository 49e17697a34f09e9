"""Experiment tracking: what a run tells Weights & Biases, TensorBoard or a CSV file beside its own results."""

from cops_lightning.loggers.evaluation import Evaluation
from cops_lightning.loggers.files import CsvSink, TensorBoardSink
from cops_lightning.loggers.tracker import Sink, Tracker

__all__ = ["CsvSink", "Evaluation", "Sink", "TensorBoardSink", "Tracker"]
