"""Experiment tracking: what a run tells Weights & Biases, TensorBoard or a CSV file beside its own results."""

from cops_lightning.tracking.evaluation import Evaluation
from cops_lightning.tracking.files import CsvSink, TensorBoardSink
from cops_lightning.tracking.tracker import Sink, Tracker
from cops_lightning.tracking.training import TrainingCurves

__all__ = ["CsvSink", "Evaluation", "Sink", "TensorBoardSink", "Tracker", "TrainingCurves"]
