"""What Weights & Biases receives, read back from the offline run's own file."""

import struct
from pathlib import Path

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from .conftest import SMALL, make_dataset

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


@pytest.fixture(scope="module")
def offline_run(tmp_path_factory, run_command) -> list:
    here = tmp_path_factory.mktemp("tracked")
    auxiliary, target = make_dataset(here / "parts"), make_dataset(here / "tiles", seed=1)
    arguments = (f"auxiliary.source={auxiliary}", "auxiliary.epochs=1", f"targets=[{target}]", "hydra.run.dir=run")
    tracked = ("logger=wandb", "study=trial", "report.heatmaps=0", *SMALL)
    result = run_command("cops-train", "auxiliary=own", *arguments, *tracked, cwd=here, HOME=str(here), NETRC="none")
    assert result.returncode == 0, result.stderr
    (file,) = (here / "run" / "wandb").glob("offline-run-*/*.wandb")
    return records(file)


def test_without_a_login_the_run_is_kept_offline_and_finished(offline_run):
    assert any(record.WhichOneof("record_type") == "exit" for record in offline_run)


def test_the_run_is_grouped_by_study_and_carries_the_configuration(offline_run):
    (run,) = [record.run for record in offline_run if record.WhichOneof("record_type") == "run"][:1]
    assert (run.run_group, run.job_type, run.display_name) == ("trial", "cops", "cops-parts-seed0")
    assert "optim" in {item.key for item in run.config.update}


def test_losses_and_final_metrics_are_logged(offline_run):
    keys = {
        "/".join(item.nested_key) or item.key
        for record in offline_run
        if record.WhichOneof("record_type") == "history"
        for item in record.history.item
    }
    assert {"train/total_epoch", "train/kl_epoch", "tiles/image_auroc", "tiles/pixel_aupro"} <= keys
