"""What a detector reads of the image tower: by definition, in company as alone, and named apart."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cops_lightning.clip.image_encoder import patch_tokens, split_heads
from cops_lightning.clip.request import DEFAULT, FeatureRequest, WindowRequest
from cops_lightning.clip.weights import clip_from_state
from cops_lightning.clip.windows import encode_windows, square_windows
from cops_lightning.core.errors import ConfigError

BLOCKS = 4
REQUESTS = [
    FeatureRequest((BLOCKS,), values_from=1),
    FeatureRequest((1, 2, 4), values_from=2),
    FeatureRequest((1, 3), values_from=None, patch_space="tower", global_norm=True),
    FeatureRequest((2, 4), values_from=None, patch_space="tower", global_norm=True, activation="gelu"),
    FeatureRequest((3,), values_from=0, positions="bicubic antialias"),
    FeatureRequest((BLOCKS,), values_from=None),
]
WINDOWS = WindowRequest((2, 3))


@pytest.fixture
def backbone(wordy_clip_state):
    return clip_from_state(wordy_clip_state)


def plainly(backbone, images, request):
    """The definition, block by block, on every token."""
    visual = backbone.clip.visual
    x = patch_tokens(visual, images, request.positions)
    after, attended = [x], [None]
    for block in visual.transformer.resblocks:
        normed, attn = block.ln_1(x), block.attn
        value = torch.nn.functional.linear(
            normed, attn.in_proj_weight[-x.shape[-1] :], attn.in_proj_bias[-x.shape[-1] :]
        )
        v = split_heads(value, attn.num_heads)
        mixed = torch.softmax(v @ v.mT / v.shape[-1] ** 0.5, dim=-1) @ v
        attended.append(attn.out_proj(mixed.transpose(1, 2).flatten(2)))
        x = x + attn(normed, normed, normed, need_weights=False)[0]
        hidden = block.mlp.c_fc(block.ln_2(x))
        hidden = torch.nn.functional.gelu(hidden) if request.activation == "gelu" else block.mlp.gelu(hidden)
        x = x + block.mlp.c_proj(hidden)
        after.append(x)
    start = BLOCKS if request.values_from is None else request.values_from
    taps = [after[min(layer, start)] + sum(attended[start + 1 : layer + 1]) for layer in request.layers]
    taps = [visual.ln_post(tap) @ visual.proj if request.patch_space == "joint" else tap for tap in taps]
    seen = visual.ln_post(x[:, 0]) if request.global_norm else x[:, 0]
    return seen @ visual.proj, torch.stack([tap[:, 1:] for tap in taps], dim=1)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.words())
def test_features_are_those_of_the_definition(request_, backbone, images):
    got = backbone.encode_image(images, request_)
    image, patches = plainly(backbone, images, request_)
    torch.testing.assert_close(got.image, image, atol=1e-5, rtol=0)
    torch.testing.assert_close(got.patches, patches, atol=1e-5, rtol=0)
    tower = backbone.tower(images.shape[-1])
    assert got.patches.shape[1:] == request_.patch_shape(tower)


def test_windows_are_those_of_each_side_in_turn_beside_clips_own_feature_of_the_image(backbone, images):
    got, visual = backbone.encode_image(images, WINDOWS), backbone.clip.visual
    whole, *windows = (torch.arange(36)[None], square_windows(6, 2), square_windows(6, 3))
    assert torch.equal(got.image, encode_windows(visual, images, whole)[:, 0])
    assert torch.equal(got.patches, torch.cat([encode_windows(visual, images, one) for one in windows], dim=1))
    # A grid of 6 x 6 has 5 x 5 windows of 2 x 2 and 4 x 4 of 3 x 3.
    assert got.patches.shape[1:] == WINDOWS.patch_shape(backbone.tower(images.shape[-1])) == (25 + 16, backbone.width)


def test_in_company_a_request_gets_the_very_bits_that_it_gets_alone(backbone, images):
    asked = [DEFAULT, *REQUESTS, WINDOWS]
    for request, got in zip(asked, backbone.encode_images(images, asked), strict=True):
        alone = backbone.encode_image(images, request)
        assert torch.equal(got.image, alone.image)
        assert torch.equal(got.patches, alone.patches)


def test_what_cops_reads_is_named_as_it_was_before_others_read_anything(backbone):
    assert DEFAULT.words() == ""
    assert DEFAULT.patch_shape(backbone.tower(48)) is None
    assert backbone.image_encoder() == "version 1, QuickGELU, 1 heads, patch 8"


choices = st.fixed_dictionaries(
    {
        "layers": st.none() | st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple),
        "values_from": st.none() | st.integers(0, 4),
        "patch_space": st.sampled_from(["joint", "tower"]),
        "global_norm": st.booleans(),
        "activation": st.sampled_from(["own", "gelu"]),
        "positions": st.sampled_from(["bilinear", "bicubic", "bicubic antialias"]),
    }
)

sides = st.lists(st.integers(1, 4), min_size=1, max_size=3)


@settings(max_examples=200)
@given(one=choices | sides, other=choices | sides)
def test_two_requests_have_one_name_only_if_they_are_equal(one, other):
    first, second = (
        FeatureRequest(**asked) if isinstance(asked, dict) else WindowRequest(tuple(asked)) for asked in (one, other)
    )
    assert (first == second) == (first.words() == second.words())


def test_layers_are_read_in_order_of_depth_and_once():
    assert FeatureRequest((4, 2, 2)) == FeatureRequest((2, 4))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [(FeatureRequest((0, 1)), r"Layers \[0, 1\]"), (FeatureRequest(values_from=5), "start after layer 5")],
)
def test_a_tower_that_has_not_what_is_asked_for_says_so(wrong, message):
    with pytest.raises(ConfigError, match=message):
        wrong.require_blocks(BLOCKS)
