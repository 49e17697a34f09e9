"""The loggers in a plain Trainer: alone as in a notebook, side by side in a run, and after a resume."""

import csv

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger as LightningCSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer
from torch import nn
from torch.utils.data import DataLoader

from cops_lightning.loggers import CSVLogger, TensorBoardLogger, WandbLogger, tracked
from documentation.offline_runs import latest


class Line(LightningModule):
    """A line through points; six points in batches of two are three steps an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1)
        self.save_hyperparameters({"width": 1})

    def training_step(self, batch, batch_idx):
        loss = (self.model(batch) - 2 * batch).square().mean()
        self.log("train/total", loss, on_step=True, on_epoch=True)
        return loss

    def test_step(self, batch, batch_idx):
        self.log("tiles/image_auroc", 0.75)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def points() -> DataLoader:
    return DataLoader(torch.linspace(0, 1, 6)[:, None], batch_size=2)


def trainer(loggers, folder, epochs: int = 2) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        logger=loggers,
        log_every_n_steps=1,
        callbacks=[ModelCheckpoint(folder / "checkpoints", filename="last", enable_version_counter=False)],
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


@pytest.fixture(autouse=True)
def _quiet(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("HOME", str(tmp_path))


# Lightning's own: of torch's trees, of loaders without workers, and of a folder that holds checkpoints.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*is not empty.*"),
]


def scalars(folder) -> dict[str, list[int]]:
    """The steps of every curve in metrics.csv."""
    found: dict[str, list[int]] = {}
    with (folder / "metrics.csv").open() as file:
        for line in csv.DictReader(file):
            for name, cell in line.items():
                if cell and name not in ("step", "epoch"):
                    found.setdefault(name, []).append(int(line["step"]))
    return found


STEPS = {"train/total_step": [0, 1, 2, 3, 4, 5], "train/total_epoch": [2, 5], "tiles/image_auroc": [6]}


@pytest.mark.slow
def test_several_loggers_at_once_receive_the_same_numbers(run, evaluation):
    loggers = [CSVLogger(run.folder), TensorBoardLogger(run.folder), WandbLogger(save_dir=run.folder)]
    with tracked(loggers, run):
        it = trainer(loggers, run.folder)
        module = Line()
        it.fit(module, points())
        it.test(module, points(), verbose=False)
        for logger in it.loggers:
            logger.log_evaluation(evaluation)
    expected = STEPS | {"mean/image_auroc": [6]}
    assert scalars(run.folder) == expected
    # Two files of one second are read in the order of their names, by which the tenth comes before the ninth.
    events = EventAccumulator(str(run.folder / "tensorboard"), size_guidance={"scalars": 0}, purge_orphaned_data=False)
    events.Reload()
    assert {
        tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"] if tag != "epoch"
    } == expected
    sent = latest(run.folder)
    for name, steps in expected.items():
        assert [line["trainer/global_step"] for line in sent.history() if name in line] == steps
    assert "width" not in sent.config()  # the configuration of the run is the whole of it
    (artifact,) = sent.artifacts()
    assert {entry.path for entry in artifact.manifest.contents} == {"last.ckpt"}


@pytest.mark.slow
def test_a_run_that_is_killed_and_resumed_has_every_step_once_in_every_logger(run, monkeypatch):
    # TensorBoard reads files in the order of their names, in which writers of one second are numbered without padding.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))

    class Killed(Line):
        def training_step(self, batch, batch_idx):
            if self.global_step == 4:
                raise KeyboardInterrupt
            return super().training_step(batch, batch_idx)

    def loggers():
        return [CSVLogger(run.folder), TensorBoardLogger(run.folder), WandbLogger(save_dir=run.folder)]

    first = loggers()
    with pytest.raises(SystemExit), tracked(first, run):
        trainer(first, run.folder).fit(Killed(), points())
    second = loggers()
    with tracked(second, run):
        it, module = trainer(second, run.folder), Line()
        it.fit(module, points(), ckpt_path=run.folder / "checkpoints" / "last.ckpt")
        it.test(module, points(), verbose=False)
    assert scalars(run.folder) == STEPS
    events = EventAccumulator(str(run.folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    sent = latest(run.folder)
    for name, steps in STEPS.items():
        assert [event.step for event in events.Scalars(name)] == steps
        assert [line["trainer/global_step"] for line in sent.history() if name in line] == steps


@pytest.mark.parametrize("kind", [CSVLogger, TensorBoardLogger, pytest.param(WandbLogger, marks=pytest.mark.slow)])
def test_in_a_notebook_each_is_lightnings_logger(kind, tmp_path):
    logger = kind(save_dir=tmp_path, **({"offline": True} if kind is WandbLogger else {}))
    it = trainer(logger, tmp_path, epochs=1)
    it.fit(Line(), points())
    assert it.test(Line(), points(), verbose=False) == [{"tiles/image_auroc": 0.75}]
    assert type(logger.experiment).__name__ in ("ExperimentWriter", "SummaryWriter", "Run")
    if kind is WandbLogger:
        logger.experiment.finish()
        assert latest(tmp_path).config()["width"] == 1


@pytest.mark.parametrize("method", ["experiment", "log_metrics", "save", "finalize", "after_save_checkpoint"])
def test_a_logger_of_ones_own_that_fails_costs_neither_the_training_nor_the_test(method, run, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("the tracker is down")

    class Own(LightningCSVLogger):
        pass

    setattr(Own, method, property(fail) if method == "experiment" else fail)
    with tracked([Own(run.folder), CSVLogger(run.folder)], run) as started:
        fitted = trainer(started, run.folder)
        module = Line()
        fitted.fit(module, points())
        (result,) = fitted.test(module, points(), verbose=False)
    assert (fitted.global_step, result) == (6, {"tiles/image_auroc": 0.75})
    with (run.folder / "metrics.csv").open(newline="") as file:
        assert len([line for line in csv.DictReader(file) if line["train/total_step"]]) == 6
