"""The image tower as a frozen encoder: the numbers of its definition, in less time."""

import copy
import logging

import pytest
import torch
from open_clip.model import CLIP

from cops_lightning.benchmark.baseline import encode_image
from cops_lightning.clip import image_encoder as image_module
from cops_lightning.clip.image_encoder import CPU_TOKENS, ImageEncoder, onednn_takes
from cops_lightning.clip.weights import clip_from_state, load_backbone
from tiny import TINY

ACTIVATIONS = {
    "QuickGELU": {"quick_gelu": True},
    "GELU": {"quick_gelu": False},
    "tanh-approximated GELU": {"quick_gelu": False, "vision_cfg": {"act_kwargs": {"approximate": "tanh"}}},
}


def tower(layers: int = 3, quick_gelu: bool = True, vision_cfg: dict | None = None):
    config = {**TINY, "quick_gelu": quick_gelu}
    config["vision_cfg"] = {**config["vision_cfg"], "layers": layers, **(vision_cfg or {})}
    visual = CLIP(**config).eval().requires_grad_(False).visual
    # Fresh norms are 1 and 0 and fresh biases 0, which would hide a factor that is applied twice or forgotten.
    for parameter in visual.parameters():
        if parameter.dim() == 1:
            parameter.add_(0.2 * torch.randn_like(parameter))
    return visual


@pytest.fixture
def without_onednn(monkeypatch):
    monkeypatch.setattr(image_module, "onednn_takes", lambda _dtype: False)


def assert_same_features(got, expected, atol: float) -> None:
    torch.testing.assert_close(got.image, expected.image, atol=atol, rtol=0)
    torch.testing.assert_close(got.patches, expected.patches, atol=atol, rtol=0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layers", [1, 3])
def test_features_equal_the_definition(layers, activation, images):
    visual = tower(layers, **ACTIVATIONS[activation])
    assert_same_features(ImageEncoder(visual)(images), encode_image(visual, images), atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.usefixtures("without_onednn")
def test_features_equal_the_definition_where_torch_lacks_onednn(activation, images):
    visual = tower(**ACTIVATIONS[activation])
    assert_same_features(ImageEncoder(visual)(images), encode_image(visual, images), atol=1e-5)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_within_its_rounding_of_the_definition_and_answers_in_fp32(precision, images):
    visual = tower()
    got, expected = ImageEncoder(visual, precision)(images), encode_image(visual, images)
    assert got.image.dtype == got.patches.dtype == torch.float32
    # A few roundings of operands per layer: unit roundoff 2^-9 for bf16 and 2^-11 for fp16.
    bound = 8 * {"bf16": 2**-9, "fp16": 2**-11}[precision]
    for part in ("image", "patches"):
        difference = (getattr(got, part) - getattr(expected, part)).norm()
        assert difference < bound * getattr(expected, part).norm()


def test_features_do_not_depend_on_the_batch_that_is_cut_to_fit_the_caches():
    visual = tower()
    tokens = (48 // 8) ** 2 + 1
    images = torch.randn(CPU_TOKENS // tokens + 3, 3, 48, 48)
    together = ImageEncoder(visual)(images)
    assert len(together.image) == len(images)
    assert_same_features(together, encode_image(visual, images), atol=1e-5)


def test_images_are_left_as_they_were(images):
    before = images.clone()
    ImageEncoder(tower())(images)
    assert torch.equal(images, before)


@pytest.mark.slow
def test_a_compiled_encoder_gives_the_same_features(images):
    visual = tower()
    assert_same_features(ImageEncoder(visual, compiled=True)(images), encode_image(visual, images), atol=1e-5)


def test_where_compiling_fails_the_encoder_says_so_and_runs_without(monkeypatch, caplog, images):
    def no_compiler(*_):
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(torch, "compile", lambda _function: no_compiler)
    visual = tower()
    encoder = ImageEncoder(visual, compiled=True)
    with caplog.at_level(logging.WARNING):
        got = encoder(images)
        encoder(images)
    assert_same_features(got, encode_image(visual, images), atol=1e-5)
    assert [record.message for record in caplog.records] == [
        "torch.compile failed, so the image encoder runs without it: No working C++ compiler found"
    ]


def test_a_backbone_encodes_at_its_precision(images):
    exact, rough = (load_backbone("packaged:tiny", "random", precision=p) for p in ("fp32", "bf16"))
    side = exact.patch_size * 3
    images = images[:, :, :side, :side]
    assert rough.precision == "bf16"
    difference = (rough.encode_image(images).patches - exact.encode_image(images).patches).abs().max()
    assert 0 < difference < 0.1


def test_a_copied_backbone_encodes_the_same(tiny_clip_state, images):
    backbone = clip_from_state(tiny_clip_state)
    first = backbone.encode_image(images)
    assert_same_features(copy.deepcopy(backbone).encode_image(images), first, atol=0)


def test_a_trainers_autocast_does_not_change_the_precision(images):
    encoder = ImageEncoder(tower())
    expected = encoder(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert_same_features(encoder(images), expected, atol=0)


def test_onednn_is_asked_per_type():
    assert not onednn_takes(torch.float64)
