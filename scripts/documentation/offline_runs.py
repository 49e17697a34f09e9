"""What W&B wrote of an offline run, read from its own data file."""

import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

BLOCK, FILE_HEADER, CHUNK_HEADER = 32768, 7, 7


def records(file: Path) -> list[Record]:
    """All records of a W&B data file, which is a LevelDB log: chunks in blocks, each with checksum, size and kind."""
    content, position, found, parts = file.read_bytes(), FILE_HEADER, [], b""
    while position + CHUNK_HEADER <= len(content):
        if BLOCK - position % BLOCK < CHUNK_HEADER:
            position += BLOCK - position % BLOCK
            continue
        _checksum, size, kind = struct.unpack_from("<IHB", content, position)
        parts += content[position + CHUNK_HEADER : position + CHUNK_HEADER + size]
        position += CHUNK_HEADER + size
        if kind in (1, 4):  # a whole record, or the last chunk of one
            found.append(Record.FromString(parts))
            parts = b""
    return found


class OfflineRun:
    """One attempt at a run: its data file, and the files beside it. `marked` says whether it counts as sent."""

    def __init__(self, folder: Path) -> None:
        (file,) = folder.glob("*.wandb")
        self.files, self.records = folder / "files", records(file)
        self.marked = file.with_suffix(".wandb.synced").exists()

    def of(self, kind: str) -> Iterator:
        return (getattr(record, kind) for record in self.records if record.WhichOneof("record_type") == kind)

    def run(self) -> Record:
        (run,) = self.of("run")
        return run

    def exit_code(self) -> int:
        (ended,) = self.of("exit")
        return ended.exit_code

    def config(self) -> dict:
        found = as_dict(self.run().config.update)
        for update in self.of("config"):
            found |= as_dict(update.update)
        return found

    def history(self) -> list[dict]:
        return [as_dict(line.item) for line in self.of("history")]

    def summary(self) -> dict:
        merged: dict = {}
        for summary in self.of("summary"):
            merged |= as_dict(summary.update)
        return merged

    def table(self, key: str) -> list[dict]:
        """The lines of a logged table."""
        content = json.loads((self.files / self.summary()[f"{key}/path"]).read_text())
        return [dict(zip(content["columns"], line, strict=True)) for line in content["data"]]

    def artifacts(self) -> list:
        return [artifact for artifact in self.of("artifact") if artifact.type == "model"]

    def saved(self) -> set[str]:
        """The names of the files that are sent as they are."""
        return {file.path for files in self.of("files") for file in files.files}


def as_dict(items) -> dict:
    return {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def attempts(folder: Path) -> list[OfflineRun]:
    """The attempts at the run of a run folder, oldest first."""
    return [OfflineRun(found) for found in sorted((folder / "wandb").glob("offline-run-*"))]


def latest(folder: Path) -> OfflineRun:
    """The last attempt, once W&B's process has written its end."""
    for _ in range(200):
        files = sorted((folder / "wandb").glob("offline-run-*/*.wandb"))
        if files and any(record.WhichOneof("record_type") == "exit" for record in records(files[-1])):
            return attempts(folder)[-1]
        time.sleep(0.05)
    raise AssertionError(f"The run in {folder} has no end.")
