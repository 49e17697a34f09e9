"""The two paths through CLIP's image tower."""

import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CLIP

from cops_lightning.benchmark.baseline import encode_image
from cops_lightning.clip.image_encoder import resize_positions
from cops_lightning.clip.weights import clip_from_state
from tiny import TINY


@pytest.fixture
def clip(tiny_clip_state):
    clip = CLIP(**TINY)
    clip.load_state_dict(tiny_clip_state)
    return clip.eval().requires_grad_(False)


def test_the_original_path_is_open_clips_own_up_to_the_final_norm(clip):
    images = torch.randn(2, 3, 32, 32)
    inner = clip.visual.transformer(clip.visual._embeds(images))
    expected = inner[:, 0] @ clip.visual.proj
    torch.testing.assert_close(encode_image(clip.visual, images).image, expected, atol=1e-4, rtol=1e-4)


def test_the_value_path_adds_value_value_attention_of_the_original_path_in_every_layer(clip):
    # The definition written out: eager softmax, one head at a time.
    images, visual = torch.randn(2, 3, 32, 32), clip.visual
    x = v_path = visual._embeds(images)
    for block in visual.transformer.resblocks:
        width = x.shape[-1]
        weight, bias = block.attn.in_proj_weight[2 * width :], block.attn.in_proj_bias[2 * width :]
        v = F.linear(block.ln_1(x), weight, bias)
        mixed = torch.softmax(v @ v.transpose(1, 2) / width**0.5, dim=-1) @ v
        v_path = v_path + block.attn.out_proj(mixed)
        x = block(x)
    expected = visual.ln_post(v_path[:, 1:]) @ visual.proj
    torch.testing.assert_close(encode_image(visual, images).patches, expected, atol=1e-4, rtol=1e-4)


def test_positions_of_the_trained_grid_are_not_touched():
    positions = torch.randn(17, 8)
    assert resize_positions(positions, 4) is positions


def test_resized_positions_keep_the_class_position_and_a_constant_grid():
    positions = torch.cat([torch.full((1, 8), 5.0), torch.ones(16, 8)])
    resized = resize_positions(positions, 7)
    assert resized.shape == (50, 8)
    assert torch.equal(resized[0], positions[0])
    torch.testing.assert_close(resized[1:], torch.ones(49, 8))


def test_image_features_take_no_gradient_and_the_tower_stays_in_evaluation_mode(tiny_clip_state):
    backbone = clip_from_state(tiny_clip_state).train()
    assert not backbone.clip.training
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not backbone.encode_image(torch.randn(1, 3, 32, 32)).patches.requires_grad
