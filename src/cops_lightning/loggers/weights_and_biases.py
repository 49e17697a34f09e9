"""Weights & Biases: each run of ours is one of theirs, online or in files for `wandb sync`."""

import netrc
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import numpy as np
import wandb
from jaxtyping import Float, UInt8
from PIL import Image

from cops_lightning.loggers.evaluation import Evaluation
from cops_lightning.loggers.tracker import Sink, brief, warn
from cops_lightning.metrics.curves import CategoryCurves
from cops_lightning.report.figures import Example

Mode = Literal["online", "offline", "disabled"]

# The step of the optimiser is the axis of every chart: a resumed run goes on where it was.
STEP = "trainer/global_step"
LONGEST_TAG = 64
# Seconds to wait for the upload when a run ends. What is not sent by then waits on disk: a sweep must not hang on it.
UPLOAD_TIMEOUT = 300
# An overlay has classes, not shades: the fixed scale of the anomaly maps is cut into so many.
BANDS = 10


@dataclass(frozen=True)
class WandbRun:
    """How a run is filed: see the arguments of wandb.init. `run_id` makes a resumed run go on in the same place."""

    run_id: str
    name: str
    project: str
    group: str
    job_type: str
    tags: Sequence[str]
    config: Mapping[str, Any]


class WandbSink(Sink):
    """A W&B run. Kept offline where there is no login, and where the server cannot be reached or refuses the key.

    W&B's agent of a sweep gives its runs their identity; elsewhere it is `filed.run_id`.
    """

    title = "Weights & Biases"

    def __init__(self, folder: Path, filed: WandbRun) -> None:
        self._filed = filed
        mode = wandb_mode()
        later = f"send it later by: wandb sync {folder / 'wandb'}/offline-*"
        try:
            self._run = _start(folder, filed, mode)
        except Exception as error:
            if mode != "online":
                raise
            wandb.teardown()
            warn(f"W&B did not take the run ({brief(error)}), so it is kept offline; {later}")
            self._run = _start(folder, filed, "offline")
        else:
            if mode == "offline" and "WANDB_MODE" not in os.environ:
                warn(f"There is no login for W&B, so the run is kept offline; {later}")
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP, step_sync=True)

    def log_scalars(self, values: Mapping[str, float], step: int | None) -> None:
        """A point of each curve."""
        self._run.log(dict(values) if step is None else {**values, STEP: step})

    def log_evaluation(self, evaluation: Evaluation) -> None:
        """Metrics as summary and as a table, curves as charts, heat maps as overlays and as contact sheets."""
        scalars = evaluation.scalars()
        columns, lines = evaluation.table()
        shown: dict[str, Any] = {
            **scalars,
            "results": wandb.Table(columns=columns, data=lines),
            **charts(evaluation.curves),
        }
        for target, examples in evaluation.examples.items():
            shown[f"{target}/heatmaps"] = [overlay(example, evaluation.scale) for example in examples]
            shown[f"{target}/contact_sheet"] = wandb.Image(str(evaluation.drawn / f"{target}.png"))
        self._run.log(shown)
        self._run.summary.update(scalars)

    def log_checkpoints(self, folder: Path) -> None:
        """Every checkpoint, as one artifact of the type model."""
        artifact = wandb.Artifact(f"checkpoints-{self._filed.run_id}", "model", metadata=dict(self._filed.config))
        for path in sorted(folder.iterdir()):
            if path.is_file():
                # Not copied aside: the run folder keeps what is still to be sent.
                artifact.add_file(str(path), policy="immutable")
        self._run.log_artifact(artifact)

    def close(self, failed: bool) -> None:
        """Finish the run, so that the next one of a sweep is another."""
        self._run.finish(exit_code=int(failed))


def _start(folder: Path, filed: WandbRun, mode: Mode) -> wandb.Run:
    in_sweep = "WANDB_SWEEP_ID" in os.environ
    return wandb.init(
        id=None if in_sweep else filed.run_id,
        resume="allow" if mode == "online" and not in_sweep else None,
        project=filed.project,
        group=filed.group,
        job_type=filed.job_type,
        name=filed.name,
        tags=[tag[:LONGEST_TAG] for tag in filed.tags],
        config=dict(filed.config),
        dir=folder,
        mode=mode,
        settings=wandb.Settings(console="off", silent=True, finish_timeout=UPLOAD_TIMEOUT, finish_timeout_raises=True),
    )


def wandb_mode() -> Mode:
    """What WANDB_MODE asks for; without it, online where W&B could log in without asking."""
    asked = os.environ.get("WANDB_MODE", "").lower()
    if asked in ("online", "offline", "disabled"):
        return cast(Mode, asked)
    return "online" if _logged_in() else "offline"


def _logged_in() -> bool:
    """Whether there is a key: in the environment, or in the netrc entry that W&B's login writes."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def charts(curves: Sequence[CategoryCurves]) -> dict[str, Any]:
    """A ROC and a precision-recall chart per target and level, a line per category, by TARGET/LEVEL_roc and _pr."""
    roc: dict[str, list[Iterable[Any]]] = {}
    precision_recall: dict[str, list[Iterable[Any]]] = {}
    for found in curves:
        key, c = f"{found.target}/{found.level}", found.curves
        pairs = zip(c.false_positive_rate.tolist(), c.true_positive_rate.tolist(), strict=True)
        roc.setdefault(key, []).extend([found.category, x, y] for x, y in pairs)
        pairs = zip(c.recall.tolist(), c.precision.tolist(), strict=True)
        precision_recall.setdefault(key, []).extend([found.category, x, y] for x, y in pairs)
    return {
        f"{key}_{kind}": wandb.plot.line(
            wandb.Table(columns=["category", x, y], data=lines), x, y, stroke="category", title=f"{key} {title}"
        )
        for kind, title, x, y, found_lines in (
            ("roc", "ROC", "false_positive_rate", "true_positive_rate", roc),
            ("pr", "precision-recall", "recall", "precision", precision_recall),
        )
        for key, lines in found_lines.items()
    }


def overlay(example: Example, scale: tuple[float, float]) -> wandb.Image:
    """An image with its anomaly map, and its ground truth if there is one, as overlays to switch on and off."""
    low, high = scale
    edges = np.linspace(low, high, BANDS + 1)
    height, width = example.image.shape[:2]
    masks: dict[str, Any] = {
        "anomaly_map": {
            "mask_data": bands(_resized(example.map, width, height, Image.Resampling.BILINEAR), scale),
            "class_labels": {band: f"score {edges[band]:.2f} to {edges[band + 1]:.2f}" for band in range(BANDS)},
        }
    }
    if example.mask is not None:
        truth = _resized(example.mask.astype(np.float32), width, height, Image.Resampling.NEAREST)
        masks["ground_truth"] = {"mask_data": truth.astype(np.uint8), "class_labels": {0: "normal", 1: "anomalous"}}
    return wandb.Image(example.image, masks=masks, caption=f"{example.name}: {example.caption}")


def bands(scores: Float[np.ndarray, "h w"], scale: tuple[float, float]) -> UInt8[np.ndarray, "h w"]:
    """Which of the equal parts of the scale each score lies in, from 0; scores off the scale are in its ends."""
    low, high = scale
    return np.clip((scores - low) / (high - low) * BANDS, 0, BANDS - 1).astype(np.uint8)


def _resized(
    values: Float[np.ndarray, "a b"], width: int, height: int, how: Image.Resampling
) -> Float[np.ndarray, "h w"]:
    return np.asarray(Image.fromarray(values.astype(np.float32)).resize((width, height), how))
