"""cops-predict and cops-cache build over a Ray cluster of this machine with two processes: the files of one machine."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cli.conftest import make_dataset
from cops_lightning.cli import cache, predict
from cops_lightning.core import cluster as cluster_module
from cops_lightning.core.cluster import Cluster, cluster
from cops_lightning.core.errors import ConfigError, CopsError, DatasetError
from cops_lightning.features.store import read_entry
from cops_lightning.inference.folder import PredictionFolder
from cops_lightning.models.module import CopsModule
from tiny import quiet_trainer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray's own


@pytest.fixture(scope="module")
def two() -> Iterator[Cluster]:
    """A cluster with room for two processes, which the commands of this process find."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80 * 2**20)
    with cluster() as found:
        yield found
    ray.shutdown()


def files(root: Path) -> dict[str, bytes]:
    left_out = (".lock", "build.lock")
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name not in left_out}


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def processes() -> list[int]:
    """The processes of Ray's that score, of this process's own cluster."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            pid = int(path.parent.name)
            if path.read_bytes().startswith(b"ray::MapWorker") and parent(parent(pid)) == os.getpid():
                found.append(pid)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_a_process_that_is_killed_in_the_middle_costs_no_row_and_no_byte(
    two, tiny_backbone, tmp_path, monkeypatch, capsys
):
    trainer, module = quiet_trainer(tmp_path), CopsModule(backbone=tiny_backbone)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    rng = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "photos" / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(path)
    (tmp_path / "photos" / "07.png").write_bytes(b"broken")
    words = [str(tmp_path / "photos"), f"checkpoint={tmp_path / 'last.ckpt'}", "device=cpu", "precision=fp32"]
    words += ["heatmaps=true", "masks=true", "threshold=0.5"]
    assert predict.main([*words, f"out={tmp_path / 'here'}"]) == 1
    said, killed, add = capsys.readouterr(), [], PredictionFolder.add

    def killing(self, row):
        add(self, row)
        if self.tally.images == 8:
            killed.extend(processes()[:1])
            os.kill(killed[0], signal.SIGKILL)

    monkeypatch.setattr(PredictionFolder, "add", killing)
    assert predict.main([*words, f"out={tmp_path / 'there'}", "over=ray", "actors=2"]) == 1
    assert killed
    assert killed[0] not in processes()
    assert files(tmp_path / "there") == files(tmp_path / "here")
    assert len(files(tmp_path / "there")) == 2 * 39 + 4
    assert capsys.readouterr().out.endswith(said.out.replace("/here/", "/there/"))  # after Ray's own words on the kill


def test_features_that_a_cluster_encodes_are_those_of_this_machine_to_the_last_bit(two, tmp_path, capsys):
    data = make_dataset(tmp_path / "parts", normal=4, anomalous=5)
    words = [
        "build",
        str(data),
        "--backbone",
        "tiny_random",
        "--image-size",
        "64",
        "--batch-size",
        "2",
        "--device",
        "cpu",
    ]
    assert cache.main([*words, "--cache", str(tmp_path / "here")]) == 0
    first = capsys.readouterr()
    assert cache.main([*words, "--cache", str(tmp_path / "there"), "--over", "ray"]) == 0
    here, there = (
        {path.relative_to(tmp_path / name): read_entry(path) for path in (tmp_path / name).rglob("*.safetensors")}
        for name in ("here", "there")
    )
    assert list(map(str, sorted(here))) == list(map(str, sorted(there)))
    assert len(here) == 9 + 5
    for path, (tensors, name) in here.items():
        assert there[path][1] == name
        assert all(torch.equal(tensor, there[path][0][part]) for part, tensor in tensors.items()), path
    assert capsys.readouterr().out == first.out.replace(str(tmp_path / "here"), str(tmp_path / "there"))


def test_what_ends_its_process_again_and_again_is_named_and_an_error_is_that_of_the_work(two, monkeypatch):
    def doubled(item: object) -> int:  # goes to the processes by value: they need not import what this module does
        if item == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if not isinstance(item, int):
            raise DatasetError(f"{item} is no number.")
        return 2 * item

    monkeypatch.setattr(cluster_module, "TRIES", 1)
    found = two.spread(doubled, [1, 2, 3], actors=1, named=lambda item: f"item {item}")
    assert [next(found), next(found)] == [2, 4]
    with pytest.raises(CopsError, match=r"item 3: 1 processes ended one after the other at this\. See that"):
        next(found)
    with pytest.raises(DatasetError, match="^many is no number"):
        list(two.spread(doubled, ["many"]))
    assert list(two.spread(doubled, [])) == []
    with pytest.raises(ConfigError, match="actors=3 need a CPU each; the cluster has 2"):
        list(two.spread(doubled, [1], actors=3))
    with pytest.raises(ConfigError, match="need as many GPUs; the cluster has 0"):
        list(two.spread(doubled, [1], gpu=True))


def test_a_cluster_partly_in_use_is_waited_for_aloud_and_used_as_far_as_it_is_free(two, monkeypatch):
    import ray

    class Other:
        def here(self) -> None:
            pass

    others = [ray.remote(num_cpus=1)(Other).remote() for _ in range(2)]
    ray.get([other.here.remote() for other in others])
    said: list[str] = []

    def free(sentence: str) -> None:
        said.append(sentence)
        ray.kill(others[0])

    monkeypatch.setattr(cluster_module, "SILENT", 0.5)
    monkeypatch.setattr(cluster_module, "warn", free)
    assert list(two.spread(abs, [-1, 2, -3], actors=2)) == [1, 2, 3]  # by one process: the other CPU stays in use
    assert said == ["All CPUs of the cluster are in use. Waiting for one."]
    ray.kill(others[1])


def test_what_the_cache_asks_of_a_cluster_in_vain_is_a_sentence(tmp_path, capsys):
    words = ["build", str(tmp_path), "--over", "ray", "--cache", str(tmp_path / "cache")]
    assert cache.main([*words, "--workers", "3"]) == 1
    assert "a process of the cluster decodes by itself. Leave out --workers." in capsys.readouterr().err
    assert cache.main([*words, "--device", "abacus"]) == 1
    assert "The device abacus cannot be used over a cluster. Expected cpu or cuda." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["actors=2"], "actors is of a cluster. Add over=ray, or leave it out."),
        (["over=ray", "device=abacus"], "The device abacus cannot be used over a cluster. Expected cpu or cuda."),
        (["over=ray", "device=cuda:x"], "The device cuda:x cannot be used over a cluster. Expected cpu or cuda."),
        (["over=ray", "device=meta"], "The device meta cannot be used over a cluster. Expected cpu or cuda."),
        (["over=rey"], "over is 'rey'; expected ray. Did you mean 'ray'?"),
        (["over=ray", "checkpoint=file.onnx"], "file.onnx is an exported file, which runs on one machine."),
    ],
)
def test_what_is_asked_of_a_cluster_in_vain_is_a_sentence(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    given = words if any(word.startswith("checkpoint") for word in words) else [*words, "checkpoint=last.ckpt"]
    assert predict.main(["photos", "out=out", *given]) == 1
    assert sentence in capsys.readouterr().err
