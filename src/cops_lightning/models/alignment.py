"""How much an image and each of its patches agree with the two state prompts."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

# A constant of CoPS, not CLIP's learnt logit_scale.
TEMPERATURE = 0.07


def unit(x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """`x` scaled to Euclidean norm 1 along its last axis."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / norm


def prompt_features(encoded: Float[Tensor, "b 2 m d"]) -> Float[Tensor, "b 2 d"]:
    """Unit text features: the mean over class samples of unit features, made unit again."""
    return unit(unit(encoded).mean(dim=2))


def image_logits(image: Float[Tensor, "b d"], text: Float[Tensor, "b 2 d"]) -> Float[Tensor, "b 2"]:
    """Cosine of the global feature with both prompts, over the temperature. `text` is unit."""
    return (unit(image)[:, None] * text).sum(dim=-1) / TEMPERATURE


def patch_probabilities(patches: Float[Tensor, "b p d"], text: Float[Tensor, "b 2 d"]) -> Float[Tensor, "b p 2"]:
    """Softmax over the two prompts of patch cosine over temperature; rows sum to 1. `text` is unit."""
    return F.softmax(unit(patches) @ text.transpose(1, 2) / TEMPERATURE, dim=-1)
