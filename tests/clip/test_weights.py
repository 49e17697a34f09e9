"""CLIP weights in every format they come in, and every way in which they can be wrong."""

import json
import socket

import pytest
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file

from cops_lightning.clip import weights
from cops_lightning.clip.weights import (
    clip_from_state,
    fingerprint,
    load_backbone,
)
from cops_lightning.core.errors import WeightsError
from cops_lightning.core.files import digest
from cops_lightning.core.tensor_files import read_tensors
from tiny import TINY


class Archive(torch.nn.Module):
    """What OpenAI's JIT archives hold: the weights, and three sizes beside them."""

    def __init__(self, state):
        super().__init__()
        for name, value in {**state, "input_resolution": torch.tensor(32)}.items():
            module, *path = self, *name.split(".")
            for part in path[:-1]:
                if not hasattr(module, part):
                    module.add_module(part, torch.nn.Module())
                module = getattr(module, part)
            module.register_buffer(path[-1], value.half() if value.is_floating_point() else value)

    def forward(self, x):
        return x


def save_jit(state, path):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Archive(state)).save(str(path))


def save_pickle(state, path):
    torch.save(state, path)


def save_training_checkpoint(state, path):
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)


FORMATS = {
    "ViT.pt": save_jit,
    "open_clip_model.safetensors": lambda state, path: save_file(state, path),
    "open_clip_pytorch_model.bin": save_pickle,
    "epoch_3.pt": save_training_checkpoint,
}


@pytest.fixture
def half_state(tiny_clip_state):
    """Weights that half precision represents exactly, as OpenAI publishes them."""
    return {name: value.half().float() for name, value in tiny_clip_state.items()}


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_weights_load_from_every_format_with_the_same_fingerprint(name, half_state, tmp_path):
    path = tmp_path / name
    FORMATS[name](half_state, path)
    backbone = load_backbone("from_weights", "openai", weights=path)
    images = torch.randn(1, 3, 32, 32)
    expected = clip_from_state(half_state)
    torch.testing.assert_close(backbone.encode_image(images).patches, expected.encode_image(images).patches)
    assert backbone.record.fingerprint == expected.record.fingerprint == fingerprint(half_state)
    assert backbone.record.sha256 is not None


def test_the_environment_variable_names_the_weights(tiny_clip_state, tmp_path, monkeypatch):
    save_pickle(tiny_clip_state, tmp_path / "clip.bin")
    monkeypatch.setenv("COPS_CLIP_WEIGHTS", str(tmp_path / "clip.bin"))
    assert load_backbone("from_weights", "openai").record.origin == "file clip.bin"


def test_a_local_file_never_touches_the_network(tiny_clip_state, tmp_path, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was touched")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    save_pickle(tiny_clip_state, tmp_path / "clip.bin")
    load_backbone("from_weights", "openai", weights=tmp_path / "clip.bin")


def test_a_folder_in_open_clips_layout_loads_by_its_path(tiny_clip_state, tmp_path):
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY}))
    save_file(tiny_clip_state, tmp_path / "open_clip_model.safetensors")
    backbone = load_backbone(f"local-dir:{tmp_path}", "own")
    assert backbone.record.fingerprint == fingerprint(tiny_clip_state)


def test_without_weights_and_network_one_error_names_both_ways_out(monkeypatch):
    monkeypatch.delenv("COPS_CLIP_WEIGHTS", raising=False)
    monkeypatch.setattr(weights, "_cached", lambda _published: None)
    monkeypatch.setattr(weights, "_require_network", lambda: (_ for _ in ()).throw(OSError("no route to host")))
    with pytest.raises(WeightsError, match=r"no route to host.*backbone\.weights=FILE.*COPS_CLIP_WEIGHTS.*download"):
        load_backbone("ViT-L-14-336-quickgelu", "openai")


@pytest.mark.slow
def test_a_download_that_is_already_cached_is_used(tiny_clip_state, tmp_path, monkeypatch):
    save_pickle(tiny_clip_state, tmp_path / "cached.bin")
    monkeypatch.delenv("COPS_CLIP_WEIGHTS", raising=False)
    monkeypatch.setattr(weights, "_cached", lambda _published: tmp_path / "cached.bin")
    with pytest.raises(WeightsError, match=r"cached\.bin do not fit ViT-B-16-quickgelu"):
        load_backbone("ViT-B-16-quickgelu", "openai")


def test_openai_weights_in_a_model_without_quickgelu_are_refused_before_anything_is_loaded():
    with pytest.raises(
        WeightsError, match=r"trained with QuickGELU.*ViT-L-14-336 computes GELU.*ViT-L-14-336-quickgelu"
    ):
        load_backbone("ViT-L-14-336", "openai")


def test_gelu_weights_in_a_quickgelu_model_are_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"backbone\.name=ViT-L-14|knows no weights"):
        load_backbone("ViT-L-14-quickgelu", "laion2b_s32b_b82k", weights=tmp_path / "any.bin")


def test_an_openai_archive_in_a_model_without_quickgelu_is_refused_even_as_own_weights(tiny_clip_state, tmp_path):
    save_jit(tiny_clip_state, tmp_path / "ViT-B-16.pt")
    with pytest.raises(WeightsError, match=r"ViT-B-16\.pt, an OpenAI archive, were trained with QuickGELU"):
        load_backbone("ViT-B-16", "own", weights=tmp_path / "ViT-B-16.pt")


def test_a_published_file_under_another_models_name_is_refused(tiny_clip_state, tmp_path, monkeypatch):
    path = tmp_path / "clip.bin"
    save_pickle(tiny_clip_state, path)
    published = {digest(path): ("ViT-B-16", "ViT-B-16-quickgelu")}
    monkeypatch.setattr(weights, "_published_by_openai", lambda: published)
    with pytest.raises(WeightsError, match=r"is OpenAI's ViT-B-16.*Set backbone\.name=ViT-B-16-quickgelu"):
        load_backbone("ViT-L-14-quickgelu", "openai", weights=path)


def test_a_file_whose_hash_openai_publishes_is_recorded_as_such(tiny_clip_state, tmp_path, monkeypatch):
    path = tmp_path / "clip.bin"
    save_pickle(tiny_clip_state, path)
    monkeypatch.setattr(weights, "_published_by_openai", lambda: {digest(path): ("from_weights",)})
    record = load_backbone("from_weights", "openai", weights=path).record
    assert record.published_by_openai
    assert len(record.sha256) == 64


def test_the_published_hashes_are_those_of_the_papers_backbone():
    assert ("ViT-L-14-336", "ViT-L-14-336-quickgelu") in weights._published_by_openai().values()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("RN50", "not a ViT"),
        ("ViT-H-14", "1024 does not divide by the 12 heads"),
        ("ViT-B-16-SigLIP", "tokenizer of its own"),
        ("roberta-ViT-B-32", "Hugging Face model"),
        ("coca_ViT-B-32", "not CLIP's own"),
    ],
)
def test_models_that_cannot_carry_cops_are_refused_with_the_reason(name, reason):
    with pytest.raises(WeightsError, match=reason):
        load_backbone(name, "random")


@pytest.mark.parametrize("name", ["ViT-L-14-336-quickgelu", "ViT-L-14-quickgelu", "ViT-B-16-quickgelu"])
def test_the_supported_models_pass_the_check_of_their_architecture(name):
    assert weights._architecture(name)["quick_gelu"] is True


def test_a_misspelt_model_gets_its_near_miss():
    with pytest.raises(WeightsError, match="Did you mean ViT-B-16"):
        load_backbone("ViT-B16", "openai")


def test_random_weights_come_only_by_name_and_by_seed():
    first, again, other = (load_backbone("packaged:tiny", "random", seed=s) for s in (0, 0, 1))
    assert first.record.fingerprint == again.record.fingerprint != other.record.fingerprint
    assert "random" in first.record.origin
    with pytest.raises(WeightsError, match="Random weights were asked for"):
        load_backbone("from_weights", "random")


def test_random_weights_leave_the_global_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    load_backbone("packaged:tiny", "random")
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop("visual.proj"), "missing visual.proj"),
        (lambda s: s.update(extra=torch.ones(1)), "unexpected extra"),
        (lambda s: s.update({"visual.proj": torch.ones(3, 3)}), r"visual.proj has shape \(3, 3\), expected \(64, 48\)"),
        (lambda s: s.pop("ln_final.weight"), "not an OpenAI-format CLIP.*ln_final.weight is missing"),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_key(damage, message, tiny_clip_state):
    state = dict(tiny_clip_state)
    damage(state)
    with pytest.raises(WeightsError, match=message):
        clip_from_state(state)


def test_a_truncated_file_is_named(tiny_clip_state, tmp_path):
    for name, save in FORMATS.items():
        path = tmp_path / name
        save(tiny_clip_state, path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(WeightsError, match=name):
            read_tensors(path, WeightsError)


def test_a_pickle_that_runs_code_is_refused(tmp_path):
    torch.save({"weights": CLIP}, tmp_path / "evil.pt")
    with pytest.raises(WeightsError, match=r"evil\.pt cannot be read as weights"):
        read_tensors(tmp_path / "evil.pt", WeightsError)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match="There is no file .*gone.pt"):
        load_backbone("from_weights", "openai", weights=tmp_path / "gone.pt")
