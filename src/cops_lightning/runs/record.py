"""run.json: what produced a run, written when it starts and again when it ends."""

import hashlib
import json
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cops_lightning.clip.frozen_clip import BackboneRecord
from cops_lightning.core.files import digest, replacing
from cops_lightning.data import DatasetIndex, write_index
from cops_lightning.runs.state import RECORD, RESULTS, Entry, Status
from cops_lightning.models.module import EncoderCount

PACKAGES = ("cops_lightning", "torch", "torchvision", "lightning", "hydra-core", "open_clip_torch", "numpy", "pillow")
# What does not enter a run's name, because it may not change what a run means: where files lie and what computes...
PLACES: dict[str, tuple[str, ...]] = {
    "data": ("root", "roots", "cache", "workers", "eval_batch_size"),
    "backbone": ("weights", "compile"),
    "cache": ("enabled", "budget_gb"),
    "trainer": ("accelerator", "devices", "strategy", "deterministic", "progress"),
}
# ... and what is shown, tracked or done with the numbers.
SILENT = ("logger", "report", "title", "fail_fast", "objective")


def run_id(config: Mapping[str, Any]) -> str:
    """A name for what a configuration computes: equal for equal settings and seed, wherever the files lie.

    Files of weights and checkpoints enter by their content.
    """
    kept: dict[str, Any] = {}
    for key, value in config.items():
        if key in SILENT:
            continue
        if isinstance(value, Mapping):
            value = {k: v for k, v in value.items() if k not in PLACES.get(key, ())}
        if value != {}:
            kept[key] = value
    weights = (config.get("backbone") or {}).get("weights")
    for key, path in (("weights", weights), ("checkpoint", config.get("checkpoint"))):
        if path and (content := _content(Path(path))):
            kept[key] = content
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def _content(path: Path) -> str | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return _digest(path, stat.st_size, stat.st_mtime_ns)


@lru_cache
def _digest(path: Path, size: int, modified: int) -> str | None:
    """The digest of a file that has not changed since it was last asked for; weights are large."""
    return digest(path)


class RunRecord:
    """The growing content of run.json; every change reaches the disk at once, atomically.

    `entry` is what the ledger has of earlier attempts at this run; `checkpoint` the one to go on from, None at first.
    Without `written` nothing reaches the disk, for the further processes of a distributed run.
    """

    def __init__(
        self, folder: Path, config: Mapping[str, Any], seed: int, entry: Entry | None = None, written: bool = True
    ) -> None:
        entry = entry or Entry()
        self._written = written
        self.path = folder / RECORD
        self.run_id = run_id(config)
        self.checkpoint = entry.checkpoint
        self._began = time.monotonic()
        self.content: dict[str, Any] = {
            "run_id": self.run_id,
            "status": "running",
            "attempts": entry.attempts + 1,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "duration_seconds": None,
            "seed": seed,
            "git": _git_state(),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
            "config": dict(config),
        }
        self._write()

    def add_backbone(self, record: BackboneRecord) -> None:
        """The frozen weights that were loaded."""
        self.content["backbone"] = asdict(record)
        self._write()

    def add_data(self, role: str, index: DatasetIndex) -> None:
        """A dataset that was found, as what (auxiliary or target), the fingerprint that tells it from another, and the
        list of its files in `manifests/`.
        """
        if not self._written:
            return
        manifest = self.path.parent / "manifests" / f"{index.name}.jsonl"
        fingerprint = write_index(index, manifest)
        counts = {
            category: {split: {"normal": normal, "anomalous": anomalous} for split, (normal, anomalous) in of.items()}
            for category, of in index.counts().items()
        }
        found = {
            "role": role,
            "name": index.name,
            "root": str(index.root),
            "layout": index.layout,
            "fingerprint": fingerprint,
            "manifest": f"manifests/{manifest.name}",
            "categories": counts,
        }
        self.content.setdefault("data", []).append(found)
        self._write()

    def add_encoder(self, count: EncoderCount) -> None:
        """How many images the encoder saw, and how many it did not need to."""
        self.content["image_encoder"] = {"images_encoded": count.encoded, "images_from_cache": count.from_cache}
        self._write()

    def finish(self, status: Status, error: str | None = None) -> None:
        """How the run ended, and why; a run that is done vouches for its results by their digest."""
        self.content["status"] = status
        if status == "done":
            self.content["results_sha256"] = digest(self.path.parent / RESULTS)
        self.content["duration_seconds"] = round(time.monotonic() - self._began, 3)
        if error:
            self.content["error"] = error
        self._write()

    def _write(self) -> None:
        if not self._written:
            return
        with replacing(self.path) as partial:
            partial.write_text(json.dumps(self.content, indent=2) + "\n")


def _git_state() -> dict[str, Any] | None:
    """Commit of the checkout that the code runs from, and whether it was changed; None outside a checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        # An environment inside some other project's checkout is not a checkout of this one.
        git("ls-files", "--error-unmatch", str(Path(__file__)))
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain", "-uno"))}
    except (OSError, subprocess.SubprocessError):
        return None
