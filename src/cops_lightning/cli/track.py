"""`cops-track`: send finished runs to a tracker, long after they ended."""

import argparse
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cops_lightning.cli.commands import exit_code
from cops_lightning.core.errors import CopsError

if TYPE_CHECKING:
    from cops_lightning.loggers import Evaluation, RunInfo, RunLogger

RECORD = "run.json"
PROJECT = "cops_lightning"
# The tag by which a run of ours is found again in MLflow, which gives runs identities of its own.
RUN_TAG = "cops_run_id"

EXAMPLES = """\
examples:
  cops-track runs/default/2026-05-04_10-00-00 --logger wandb
  cops-track runs/ablations --logger wandb --project ablations --entity my-team
                                                  every run below the folder that has ended
  cops-track runs/ablations --logger tensorboard  then: tensorboard --logdir runs/ablations
  cops-track runs/ablations --logger mlflow --uri sqlite:///mlflow.db

It sends the curves of metrics.csv, the metrics of results.csv, heat maps, checkpoints, the configuration and how the
run ended. A run keeps its identity: what is sent twice is there once. Without a login for W&B a run is kept in its
folder, for `wandb sync`.

Exit code: 0 where everything was sent, 1 where something could not be."""


@dataclass(frozen=True)
class FinishedRun:
    """The folder of a run that has ended, and the content of its run.json."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def failure(self) -> CopsError | None:
        """Why the run did not come to its end, None if it did."""
        if self.record["status"] == "done":
            return None
        return CopsError(self.record.get("error") or f"The run is {self.record['status']}.")

    def info(self) -> "RunInfo":
        """What loggers file it under."""
        from cops_lightning.loggers import RunInfo
        from cops_lightning.report.tables import read_results

        record, config = self.record, self.record["config"]
        names = {
            role: [d["name"] for d in record.get("data", ()) if d["role"] == role] for role in ("auxiliary", "target")
        }
        results = self.folder / "results.csv"
        rows = read_results(results) if results.is_file() else []
        auxiliary = rows[0].run.auxiliary if rows else next(iter(names["auxiliary"]), "none")
        variant = rows[0].run.variant if rows else config.get("variant") or "evaluation"
        evaluation = bool(config.get("checkpoint"))
        return RunInfo(
            run_id=record["run_id"],
            name=f"{variant}-{auxiliary}-seed{record['seed']}",
            study=rows[0].run.study if rows else config.get("study") or "default",
            variant=variant,
            method=record.get("method") or "",
            seed=record["seed"],
            auxiliary=auxiliary,
            targets=tuple(names["target"]),
            backbone=(record.get("backbone") or {}).get("name", "unknown"),
            folder=self.folder,
            config=config,
            kind="evaluation" if evaluation else "run",
            duration_seconds=record.get("duration_seconds"),
        )

    def curves(self) -> Iterator[tuple[int, dict[str, float]]]:
        """The lines of metrics.csv: step and values. None where the run left no curves."""
        import csv

        file = self.folder / "metrics.csv"
        if not file.is_file():
            return
        with file.open(newline="", encoding="utf-8") as opened:
            for line in csv.DictReader(opened):
                step = line.pop("step", None)
                values = {name: float(cell) for name, cell in line.items() if cell}
                if step and values:
                    yield int(step), values

    def evaluation(self) -> "Evaluation | None":
        """What results.csv and heatmaps/ hold of its evaluation, if it came to one."""
        from cops_lightning.loggers import Evaluation
        from cops_lightning.report.tables import read_results

        results = self.folder / "results.csv"
        if not results.is_file():
            return None
        rows = [row.measured for row in read_results(results)]
        return Evaluation(rows, [], {}, (0.0, 1.0), self.folder / "heatmaps")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    # A tracker's failure is one sentence on the console; there is no log file here that takes its traceback.
    logging.getLogger("cops_lightning").addHandler(logging.NullHandler())
    return exit_code(lambda: track(arguments), "interrupted; what was sent is not sent twice by the same command.")


def track(arguments: argparse.Namespace) -> int:
    """Send every run below the given folders."""
    runs = [run for folder in arguments.runs for run in find_runs(folder)]
    lost = 0
    for run in runs:
        sent = SEND[arguments.logger](run, arguments)
        lost += not sent
        if sent:
            print(f"sent {run.record['run_id']}: {run.folder}")
    return int(lost > 0)


def find_runs(folder: Path) -> list[FinishedRun]:
    """The runs below a folder that have ended. Raises CopsError if there is none."""
    found = []
    for path in sorted(folder.rglob(RECORD)):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            raise CopsError(f"{path} is no JSON. Remove that run's folder, or do the run again.") from None
        if not isinstance(record, dict) or not {"run_id", "status", "seed", "config"} <= record.keys():
            raise CopsError(f"{path} is not the record of a run: expected the keys run_id, status, seed and config.")
        if record["status"] == "running":
            print(f"not sent: {path.parent} has not ended.")
        else:
            found.append(FinishedRun(path.parent, record))
    if not found:
        raise CopsError(
            f"There is no run that has ended in or below {folder}: expected {RECORD} with a status. Give the folder "
            "of a run, or one below which runs lie."
        )
    return found


def _send_to_wandb(run: FinishedRun, arguments: argparse.Namespace) -> bool:
    from cops_lightning.loggers import WandbLogger

    given = {"entity": arguments.entity} if arguments.entity else {}
    return _replay(run, WandbLogger(save_dir=run.folder, project=arguments.project or PROJECT, **given))


def _send_to_tensorboard(run: FinishedRun, arguments: argparse.Namespace) -> bool:
    from cops_lightning.loggers import TensorBoardLogger

    return _replay(run, TensorBoardLogger(run.folder))


def _replay(run: FinishedRun, logger: "RunLogger") -> bool:
    """Send a logger what the run would have sent it; whether that worked."""
    logger.start(run.info())
    for step, values in run.curves():
        logger.log_metrics(values, step)
    evaluation = run.evaluation()
    if evaluation is not None:
        logger.log_evaluation(evaluation)
    logger.finish(run.failure)
    return not logger.failed


def _send_to_mlflow(run: FinishedRun, arguments: argparse.Namespace) -> bool:
    """A new run takes the place of the one that was sent before."""
    from lightning.pytorch.loggers import MLFlowLogger

    info = run.info()
    try:
        logger = MLFlowLogger(
            experiment_name=arguments.project or info.study,
            run_name=info.name,
            tracking_uri=arguments.uri,
            tags={RUN_TAG: info.run_id, "method": info.method, "status": run.record["status"]},
        )
    except ModuleNotFoundError:
        raise CopsError(
            "MLflow is not installed. Install it by: pip install 'cops_lightning[mlflow]', or choose another --logger."
        ) from None
    client, mine = logger.experiment, logger.run_id
    for before in client.search_runs([logger.experiment_id], f"tags.{RUN_TAG} = '{info.run_id}'"):
        if before.info.run_id != mine:
            client.delete_run(before.info.run_id)
    logger.log_hyperparams(dict(info.config))
    last = 0
    for last, values in run.curves():
        logger.log_metrics(values, last)
    evaluation = run.evaluation()
    if evaluation is not None:
        logger.log_metrics(evaluation.scalars(), last)
    for name in ("results.csv", "run.json", "run.log", "traceback.txt"):
        if (run.folder / name).is_file():
            client.log_artifact(mine, str(run.folder / name))
    for name in ("heatmaps", "checkpoints"):
        if (run.folder / name).is_dir():
            client.log_artifacts(mine, str(run.folder / name), name)
    logger.finalize("success" if run.failure is None else "failed")
    return True


SEND: dict[str, Callable[[FinishedRun, argparse.Namespace], bool]] = {
    "wandb": _send_to_wandb,
    "tensorboard": _send_to_tensorboard,
    "mlflow": _send_to_mlflow,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cops-track",
        description="Send finished runs to a tracker, long after they ended.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs", metavar="RUN", type=Path, nargs="+", help="folder of a run, or one below which runs lie"
    )
    parser.add_argument("--logger", choices=tuple(SEND), required=True, help="where to")
    parser.add_argument(
        "--project",
        metavar="NAME",
        help=f"W&B's project (default: {PROJECT}) or MLflow's experiment (default: the study)",
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
