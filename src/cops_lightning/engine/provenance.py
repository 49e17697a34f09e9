"""run.json: what produced a run, written when it starts and again when it ends."""

import hashlib
import json
import platform
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cops_lightning.backbone.clip import BackboneRecord
from cops_lightning.core.files import replacing
from cops_lightning.data import DatasetIndex, write_index
from cops_lightning.engine.task import EncoderCount

PACKAGES = ("cops_lightning", "torch", "torchvision", "lightning", "hydra-core", "open_clip_torch", "numpy", "pillow")
# Where a run finds its files, and what it computes on: neither may change what it means.
PLACES: dict[str, tuple[str, ...]] = {
    "data": ("root", "roots", "cache", "workers", "eval_batch_size"),
    "backbone": ("weights", "compile"),
    "cache": ("enabled", "budget_gb"),
}
SILENT = ("trainer", "logger", "report", "title")


def run_id(config: Mapping[str, Any]) -> str:
    """A name for what a configuration computes: equal for equal settings and seed, wherever the files lie."""
    kept = {}
    for key, value in config.items():
        if key in SILENT:
            continue
        dropped = PLACES.get(key, ())
        kept[key] = {k: v for k, v in value.items() if k not in dropped} if isinstance(value, Mapping) else value
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


class RunRecord:
    """The growing content of run.json; every change reaches the disk at once, atomically."""

    def __init__(self, folder: Path, config: Mapping[str, Any], seed: int) -> None:
        self.path = folder / "run.json"
        self.run_id = run_id(config)
        self._began = time.monotonic()
        self.content: dict[str, Any] = {
            "run_id": self.run_id,
            "status": "running",
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

    def finish(self, status: str, error: str | None = None) -> None:
        """How the run ended: done or failed, and why."""
        self.content["status"] = status
        self.content["duration_seconds"] = round(time.monotonic() - self._began, 3)
        if error:
            self.content["error"] = error
        self._write()

    def _write(self) -> None:
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
