"""Sentences to features: CLIP's own text path, with the tokenizer that belongs to the weights."""

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.clip.weight_files import VOCABULARY, local_folder
from cops_lightning.core.errors import WeightsError

# Sentences per pass through the text tower.
CHUNK = 256


def tokenizer_of(backbone: FrozenClip) -> SimpleTokenizer:
    """CLIP's byte-pair tokenizer over the vocabulary of these weights.

    Raises WeightsError if it spells other tokens than the text tower has embeddings for.
    """
    folder, clip = local_folder(backbone.record.name), backbone.clip
    own = folder / VOCABULARY if folder is not None else None
    path = str(own) if own is not None and own.is_file() else None
    length = clip.context_length
    tokenizer = _of_clip(length) if path is None else SimpleTokenizer(path, context_length=length)
    if tokenizer.vocab_size != clip.vocab_size:
        raise WeightsError(
            f"{backbone.record.name} has embeddings for {clip.vocab_size} tokens, yet "
            f"{path or 'the vocabulary of CLIP'} spells {tokenizer.vocab_size}. Put the merges of its vocabulary "
            f"beside its configuration as {VOCABULARY}, or use a model of CLIP's vocabulary."
        )
    return tokenizer


@cache
def _of_clip(context_length: int) -> SimpleTokenizer:
    """The one over CLIP's own vocabulary, whose reading takes as long as a small model: made once."""
    return SimpleTokenizer(context_length=context_length)


@torch.no_grad()
def encode_texts(backbone: FrozenClip, texts: Sequence[str]) -> Float[Tensor, "n d"]:
    """Unit features of sentences, as CLIP itself reads them. What exceeds its context is cut off."""
    tokens = tokenizer_of(backbone)(list(texts)).to(backbone.clip.text_projection.device)
    return torch.cat([F.normalize(backbone.clip.encode_text(part), dim=-1) for part in torch.split(tokens, CHUNK)])
