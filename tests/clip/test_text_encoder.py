"""Prompt embeddings through CLIP's text tower."""

import open_clip
import pytest
import torch

from cops_lightning.clip.frozen_clip import PERIOD_TOKEN
from cops_lightning.clip.weights import clip_from_state


@pytest.fixture
def backbone(tiny_clip_state):
    return clip_from_state(tiny_clip_state)


def test_a_prompt_of_ordinary_tokens_equals_open_clips_encoding_of_all_positions(backbone):
    clip = backbone.clip
    tokens = torch.tensor([[298, 5, 6, 7, 8, 9, 10, 269, 299] + [0] * 15])
    expected = clip.encode_text(tokens)
    embedded = clip.token_embedding(tokens)
    got = backbone.encode_prompts(embedded[:, :6], embedded[:, None, 6:9], deep=[])
    torch.testing.assert_close(got[:, 0], expected, atol=1e-5, rtol=1e-5)


def test_encoding_the_shared_prefix_once_equals_encoding_every_sample_alone(backbone):
    prefix, suffix = torch.randn(2, 13, 48), torch.randn(2, 5, 4, 48)
    deep = [torch.randn(2, 4, 48) for _ in range(3)]
    together = backbone.encode_prompts(prefix, suffix, deep)
    for sample in range(5):
        alone = backbone.encode_prompts(prefix, suffix[:, sample : sample + 1], deep)
        torch.testing.assert_close(together[:, sample : sample + 1], alone, atol=1e-5, rtol=1e-5)


def test_deep_tokens_overwrite_positions_one_to_four_so_what_stood_there_is_forgotten(backbone):
    prefix, suffix = torch.randn(1, 13, 48), torch.randn(1, 1, 4, 48)
    deep = [torch.randn(1, 4, 48)]
    first_layer_only = prefix.clone()
    first_layer_only[:, 1:5] += 1
    # The first layer still reads the original tokens, so the change is seen; a change of the deep tokens is too.
    base = backbone.encode_prompts(prefix, suffix, deep)
    assert not torch.equal(base, backbone.encode_prompts(first_layer_only, suffix, deep))
    assert not torch.equal(base, backbone.encode_prompts(prefix, suffix, [deep[0] + 1]))


def test_deep_tokens_beyond_the_towers_depth_go_unused(backbone):
    prefix, suffix = torch.randn(1, 13, 48), torch.randn(1, 1, 4, 48)
    deep = [torch.randn(1, 4, 48) for _ in range(8)]
    depth = len(backbone.clip.transformer.resblocks)
    assert torch.equal(
        backbone.encode_prompts(prefix, suffix, deep), backbone.encode_prompts(prefix, suffix, deep[: depth - 1])
    )


def test_the_period_and_frame_tokens_are_those_of_clips_tokenizer():
    tokenizer = open_clip.SimpleTokenizer()
    sot, period, eot = tokenizer(".")[0, :3].tolist()
    assert (sot, period, eot) == (tokenizer.vocab_size - 2, PERIOD_TOKEN, tokenizer.vocab_size - 1)
