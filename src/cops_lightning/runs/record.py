"""run.json: what produced a run, written when it starts and again when it ends."""

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

from cops_lightning.clip.frozen_clip import BackboneRecord
from cops_lightning.core.files import RECORD, RESULTS, digest, replacing
from cops_lightning.core.names import file_name
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.data.readers.index_file import write_index
from cops_lightning.models.module import EncoderCount
from cops_lightning.report.tables import Run
from cops_lightning.runs.state import Status

PACKAGES = ("cops_lightning", "torch", "torchvision", "lightning", "hydra-core", "open_clip_torch", "numpy", "pillow")


RUNNING: Status = "running"
BEGUN = f'"status": "{RUNNING}",'
SPARE = 4  # spaces that leave room for a longer word


class RunRecord:
    """The growing content of run.json; every change reaches the disk at once, atomically.

    Args:
        folder: of the run.
        config: all its settings, as plain values.
        run: what its results are filed under; its auxiliary dataset is known once there is `add_auxiliary`.
        method_settings: what `run.method` is the hash of.
        key: names the run by its settings and the content of what it reads.
        attempts: how often the run was started before.
        checkpoint: the one to go on from.
        written: False for the further processes of a distributed run, which write nothing.
    """

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        run: Run,
        method_settings: Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        attempts: int = 0,
        checkpoint: Path | None = None,
        written: bool = True,
    ) -> None:
        self._written = written
        self.path = folder / RECORD
        self.checkpoint = checkpoint
        self._began = time.monotonic()
        self.content: dict[str, Any] = {
            **asdict(run),
            "key": key,
            "status": RUNNING,
            "attempts": attempts + 1,
            "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "duration_seconds": None,
            "git": _git_state(),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
            "config": dict(config),
            "method_settings": dict(method_settings or {}),
        }
        self._write()

    def add_auxiliary(self, name: str) -> None:
        """What the dataset that was trained on is called."""
        self.content["auxiliary"] = name
        self._write()

    def add_backbone(self, record: BackboneRecord) -> None:
        """The frozen weights that were loaded."""
        self.content["backbone"] = asdict(record)
        self._write()

    def add_data(self, role: str, index: DatasetIndex, content: str | None = None) -> None:
        """A dataset that was found, as what (auxiliary or target), the fingerprint that tells it from another, the hash
        of its content, and the list of its files in `manifests/`.
        """
        if not self._written:
            return
        manifest = self.path.parent / "manifests" / f"{file_name(index.name)}.jsonl"
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
            "content": content,
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
        """How the run ended, and why; the record of a run that is done holds the digest of its results."""
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
        text = json.dumps(self.content, indent=2) + "\n"
        if self.content["status"] == RUNNING:
            text = text.replace(BEGUN, f"{BEGUN}{' ' * SPARE}", 1)
        try:
            with replacing(self.path) as partial:
                partial.write_text(text)
        except OSError:
            if self.content["status"] != "done":
                _patch_status(self.path, self.content["status"])
            raise


def _patch_status(path: Path, status: Status) -> None:
    """Change a record in its place: a full disk has no room for another, yet a file of the same size can be written."""
    try:
        with path.open("r+b") as file:
            found = file.read().partition(f"{BEGUN}{' ' * SPARE}".encode())
            file.seek(len(found[0]))
            if found[1]:
                file.write(f'"status": "{status}",'.encode().ljust(len(found[1])))
    except OSError:
        pass


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
