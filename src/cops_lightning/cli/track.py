"""`cops-track`: send finished runs to a tracker, long after they ended."""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cops_lightning.cli.console import command, exit_code
from cops_lightning.core.errors import CopsError, not_installed, quoted
from cops_lightning.core.files import RECORD, RESULTS
from cops_lightning.core.places import within
from cops_lightning.core.record import read_record
from cops_lightning.core.reporting import say

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

    from cops_lightning.loggers import RunInfo

KEYS = {"run_id", "method", "study", "variant", "seed", "auxiliary", "status", "config"}
# The tag by which a run of ours is found again in MLflow, which gives runs identities of its own.
RUN_ID = re.compile(r"[\w.-]{1,128}", re.ASCII)
RUN_TAG = "cops_run_id"
FILES = (RESULTS, RECORD, "run.log", "traceback.txt", "heatmaps", "checkpoints")

EXAMPLES = """\
examples:
  cops-track runs/default/cops-visa-seed0-1f0e9d8c7b6a --logger wandb
  cops-track runs/ablations --logger wandb --project ablations --entity my-team
                                                  every run below the folder that has ended
  cops-track runs/ablations --logger tensorboard  then: tensorboard --logdir runs/ablations
  cops-track runs/ablations --logger mlflow --uri sqlite:///mlflow.db

It sends the curves of metrics.csv, the metrics of results.csv, heat maps, checkpoints, the configuration and how the
run ended. A run keeps its identity: what is sent twice is there once. Without a login for W&B a run is kept in its
folder, for `wandb sync`.

Exit code: 0 where everything was sent, 1 where something could not be."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    return exit_code(lambda: track(arguments), "interrupted; what was sent is not sent twice by the same command.")


def track(arguments: argparse.Namespace) -> int:
    """Send every run below the given folders."""
    from cops_lightning.loggers import RunInfo, replay

    lost = 0
    for folder, record in (found for below in arguments.runs for found in find_runs(below)):
        logger = LOGGERS[arguments.logger](RunInfo.of(folder, record), arguments)
        sent = replay(folder, record, logger)
        lost += not sent
        if sent:
            say(f"sent {record['run_id']}: {folder}")
    return int(lost > 0)


def find_runs(below: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Folder and run.json of the runs that have ended. Raises CopsError if there is none."""
    found = []
    for path in sorted(below.rglob(RECORD)):
        record = read_record(path)
        if not record.keys() >= KEYS:
            raise CopsError(f"{path} is not what a run writes: expected the keys {', '.join(sorted(KEYS))}.")
        if not RUN_ID.fullmatch(record["run_id"]):  # which trackers look for, make folders of, and show
            raise CopsError(f"{path} is not what a run writes: its run_id is {quoted(record['run_id'])}.")
        _require_inside(path.parent)
        if record["status"] == "running":
            say(f"not sent: {path.parent} has not ended.")
        else:
            found.append((path.parent, record))
    if not found:
        raise CopsError(
            f"There is no run that has ended in or below {below}: expected {RECORD} with a status. Give the folder "
            "of a run, or one below which runs lie."
        )
    return found


def _require_inside(folder: Path) -> None:
    """Raise CopsError where a run holds a link that leads out of its folder: a tracker would be sent what is there."""
    sent = [folder / name for name in (*FILES, "metrics.csv")]
    for path in (*sent, *(inner for one in sent for inner in one.rglob("*"))):
        if path.is_symlink() and not within(path, folder):
            raise CopsError(f"{path} leads out of the folder of its run. Nothing of it was sent. Remove the link.")


def _wandb(run: "RunInfo", arguments: argparse.Namespace) -> "Logger":
    from cops_lightning.loggers import WandbLogger

    return WandbLogger(project=arguments.project, entity=arguments.entity)


def _tensorboard(run: "RunInfo", arguments: argparse.Namespace) -> "Logger":
    from cops_lightning.loggers import TensorBoardLogger

    return TensorBoardLogger(run.folder)


def _mlflow(run: "RunInfo", arguments: argparse.Namespace) -> "Logger":
    """A new run, with the files of the run folder, in the place of the one that was sent before."""
    from lightning.pytorch.loggers import MLFlowLogger

    of = run.identity
    try:
        logger = MLFlowLogger(
            experiment_name=arguments.project or of.study,
            run_name=run.name,
            tracking_uri=arguments.uri,
            tags={RUN_TAG: of.run_id, "method": of.method},
        )
    except ModuleNotFoundError:
        raise CopsError(
            f"{not_installed('--logger mlflow', 'cops_lightning[mlflow]')} Or choose another --logger."
        ) from None
    client, mine = logger.experiment, logger.run_id
    for before in client.search_runs([logger.experiment_id], f"tags.{RUN_TAG} = '{of.run_id}'"):
        if before.info.run_id != mine:
            client.delete_run(before.info.run_id)
    for path in map(run.folder.joinpath, FILES):
        if path.is_dir():
            client.log_artifacts(mine, str(path), path.name)
        elif path.is_file():
            client.log_artifact(mine, str(path))
    return logger


LOGGERS = {"wandb": _wandb, "tensorboard": _tensorboard, "mlflow": _mlflow}


def _parser() -> argparse.ArgumentParser:
    parser = command("cops-track", "Send finished runs to a tracker, long after they ended.", EXAMPLES)
    parser.add_argument(
        "runs", metavar="RUN", type=Path, nargs="+", help="folder of a run, or one below which runs lie"
    )
    parser.add_argument("--logger", choices=tuple(LOGGERS), required=True, help="where to")
    parser.add_argument(
        "--project",
        metavar="NAME",
        help="W&B's project (default: WANDB_PROJECT, else cops_lightning) or MLflow's experiment (default: the study)",
    )
    parser.add_argument("--entity", metavar="NAME", help="W&B's team or user (default: that of the login)")
    parser.add_argument(
        "--uri",
        metavar="URI",
        default="sqlite:///mlflow.db",
        help="MLflow's database or server (default: sqlite:///mlflow.db)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
