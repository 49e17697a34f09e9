"""The files of a backbone are known by their content before any of them is loaded."""

import json
import shutil

import pytest

from cops_lightning.clip.weight_files import LOCAL_CONFIG, LOCAL_WEIGHTS, VOCABULARY, weights_fingerprint
from cops_lightning.core.errors import WeightsError


@pytest.fixture
def model(tmp_path):
    """A folder in open_clip's layout; its weights are not looked into."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / LOCAL_CONFIG).write_text(json.dumps({"model_cfg": {}}))
    (folder / LOCAL_WEIGHTS[0]).write_bytes(b"weights")
    (folder / VOCABULARY).write_bytes(b"merges")
    return folder


def of_folder(folder) -> str | None:
    return weights_fingerprint({"name": f"local-dir:{folder}", "pretrained": "own"})


@pytest.mark.parametrize("file", [LOCAL_CONFIG, LOCAL_WEIGHTS[0], VOCABULARY])
def test_one_byte_of_any_file_of_a_local_model_is_another_model(file, model, tmp_path):
    before = of_folder(model)
    copy = shutil.copytree(model, tmp_path / "elsewhere")
    assert of_folder(copy) == before, "wherever it lies"
    content = (copy / file).read_bytes()
    (copy / file).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert of_folder(copy) != before


def test_the_same_file_counts_alike_as_a_setting_and_by_the_environment(tmp_path, monkeypatch):
    (tmp_path / "a.bin").write_bytes(b"one")
    (tmp_path / "b.bin").write_bytes(b"two")
    node = {"name": "ViT-L-14-quickgelu", "pretrained": "openai"}
    monkeypatch.delenv("COPS_CLIP_WEIGHTS", raising=False)
    assert weights_fingerprint(node) is None, "a tag says which weights they are"
    given = {key: weights_fingerprint({**node, "weights": str(tmp_path / key)}) for key in ("a.bin", "b.bin")}
    assert given["a.bin"] != given["b.bin"]
    for key, expected in given.items():
        monkeypatch.setenv("COPS_CLIP_WEIGHTS", str(tmp_path / key))
        assert weights_fingerprint(node) == expected


def test_random_weights_of_a_published_model_need_no_file(monkeypatch, tmp_path):
    monkeypatch.setenv("COPS_CLIP_WEIGHTS", str(tmp_path / "not looked at"))
    assert weights_fingerprint({"name": "ViT-B-16-quickgelu", "pretrained": "random"}) is None


def test_weights_that_are_absent_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.pt cannot be read: No such file"):
        weights_fingerprint({"name": "from_weights", "pretrained": "own", "weights": str(tmp_path / "gone.pt")})
