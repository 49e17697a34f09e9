"""Lightning's loggers with what a run adds: its identity, the pictures of its evaluation, its end."""

from cops_lightning.loggers.csv_logger import CSVLogger
from cops_lightning.loggers.evaluation import Evaluation
from cops_lightning.loggers.replay import replay
from cops_lightning.loggers.run_info import RunInfo
from cops_lightning.loggers.run_logger import RunLogger, tracked
from cops_lightning.loggers.tensorboard_logger import TensorBoardLogger
from cops_lightning.loggers.wandb_logger import WandbLogger

__all__ = ["CSVLogger", "Evaluation", "RunInfo", "RunLogger", "TensorBoardLogger", "WandbLogger", "replay", "tracked"]
