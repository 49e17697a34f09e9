"""What a logger files a run under."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

# What is only known when a run has ended; trackers keep it as results, not as settings.
ENDING = ("status", "duration_seconds", "error", "results_sha256")


@dataclass(frozen=True)
class RunInfo:
    """A run, as its loggers know it.

    Args:
        run_id: Equal for equal settings and seed, so that a resumed run goes on in the same place.
        name: What people call the run.
        study: The study that it belongs to.
        variant: The setting of the study that it is.
        method: Hash of all settings that can change its numbers, the seed left out.
        seed: Of its random numbers.
        auxiliary: The dataset that was trained on.
        targets: The datasets that are tested on.
        backbone: The frozen CLIP.
        folder: The run folder; run.json, checkpoints/ and run.log are read from it.
        config: All settings as plain values; of an evaluation those of its method too.
        kind: Whether it is a run of the method, or the evaluation of a checkpoint.
        duration_seconds: How long it took, of a run that is sent after it has ended.
    """

    run_id: str
    name: str
    study: str
    variant: str
    method: str
    seed: int
    auxiliary: str
    targets: tuple[str, ...]
    backbone: str
    folder: Path
    config: Mapping[str, Any]
    kind: Literal["run", "evaluation"] = "run"
    duration_seconds: float | None = None

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints; there is none of a run that trains nothing."""
        return self.folder / "checkpoints"

    def provenance(self) -> dict[str, Any]:
        """What run.json says of where the run comes from (git, versions, weights, data); nothing without that file."""
        try:
            content = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return {key: value for key, value in content.items() if key not in ("config", "method_settings", *ENDING)}
