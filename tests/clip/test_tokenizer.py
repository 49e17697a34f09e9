"""Sentences in the vocabulary of the weights."""

import pytest
import torch
import torch.nn.functional as F

from cops_lightning.clip.tokenizer import encode_texts, tokenizer_of
from cops_lightning.clip.weights import clip_from_state, load_backbone
from cops_lightning.core.errors import WeightsError


@pytest.fixture(scope="module")
def mini():
    return load_backbone("packaged:mini", "own")


def test_a_packaged_backbone_is_read_in_its_own_vocabulary(mini):
    tokenizer = tokenizer_of(mini)
    assert tokenizer.vocab_size == mini.clip.vocab_size < 49408
    assert tokenizer.decode(tokenizer.encode("a damaged leather")).strip() == "a damaged leather"


def test_texts_have_unit_norm_and_are_clips_own_features(mini):
    texts = ["a photo of a cable.", "leather"]
    features = encode_texts(mini, texts)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))
    expected = F.normalize(mini.clip.encode_text(tokenizer_of(mini)(texts)), dim=-1)
    torch.testing.assert_close(features, expected)


def test_a_text_does_not_depend_on_its_company(mini):
    texts = [f"a photo of {n} gears" for n in range(5)]
    torch.testing.assert_close(encode_texts(mini, texts)[3:4], encode_texts(mini, texts[3:4]), atol=1e-6, rtol=0)


def test_a_tower_of_another_vocabulary_is_refused(tiny_clip_state):
    with pytest.raises(WeightsError, match="embeddings for 300 tokens.*the vocabulary of CLIP spells 49408"):
        tokenizer_of(clip_from_state(tiny_clip_state))
