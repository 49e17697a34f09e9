"""What a logger files a run under."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from cops_lightning.core.files import RECORD, read_whole
from cops_lightning.report.tables import Run

# What is only known when a run has ended; trackers keep it as results, not as settings.
ENDING = ("status", "duration_seconds", "error", "results_sha256")


@dataclass(frozen=True)
class RunInfo:
    """A run, as its loggers and callbacks know it.

    Args:
        identity: What its results are filed under.
        targets: The datasets that are tested on.
        backbone: The frozen CLIP.
        folder: The run folder; run.json, checkpoints/ and run.log are read from it.
        config: All settings as plain values; of an evaluation those of its method too.
        duration_seconds: How long it took, of a run that is sent after it has ended.
        one_of_many: Whether it is a job of a multirun, or one of several that are sent: an identity that a tracker's
            environment names is then not its own.
    """

    identity: Run
    targets: tuple[str, ...]
    backbone: str
    folder: Path
    config: Mapping[str, Any]
    duration_seconds: float | None = None
    one_of_many: bool = False

    @classmethod
    def of(cls, folder: Path, record: Mapping[str, Any], one_of_many: bool = False) -> "RunInfo":
        """The run in `folder`, whose run.json holds `record`."""
        config = record["config"]
        if config.get("checkpoint"):
            # What an evaluation leaves open its checkpoint decides; that is no setting.
            config = (record.get("method_settings") or {}) | _stated(config)
        return cls(
            Run(**{field.name: record[field.name] for field in fields(Run)}),
            tuple(data.get("name", "") for data in record.get("data") or () if data.get("role") == "target"),
            (record.get("backbone") or {}).get("name", "unknown"),
            folder,
            config,
            None if (seconds := record.get("duration_seconds")) is None else float(seconds),
            one_of_many,
        )

    @property
    def kind(self) -> Literal["run", "evaluation"]:
        """Whether it is a run of the method, or the evaluation of a checkpoint."""
        return "evaluation" if self.config.get("checkpoint") else "run"

    @property
    def name(self) -> str:
        """What people call it."""
        name = f"{self.identity.variant}-{self.identity.auxiliary}-seed{self.identity.seed}"
        return name if self.kind == "run" else f"evaluation-{name}"

    def provenance(self) -> dict[str, Any]:
        """What run.json says of where the run comes from (git, versions, weights, data); nothing without that file."""
        try:
            content = json.loads(read_whole(self.folder / RECORD))
        except (OSError, ValueError):
            return {}
        return {key: value for key, value in content.items() if key not in ("config", "method_settings", *ENDING)}


def _stated(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are neither null nor empty."""
    return {
        key: _stated(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if value not in (None, {})
    }
