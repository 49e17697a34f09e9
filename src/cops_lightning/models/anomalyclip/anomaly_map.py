"""From the patches of each layer read to the evidence of a map."""

import torch
from jaxtyping import Float
from torch import Tensor

from cops_lightning.models.alignment import TEMPERATURE, unit


def patch_probabilities(patches: Float[Tensor, "b l p d"], text: Float[Tensor, "2 d"]) -> Float[Tensor, "b l p"]:
    """Probability that each patch is anomalous: softmax over the two prompts of cosine over temperature.

    Of two states this is the logistic function of the difference, so one product a patch will do. `text` is unit.
    """
    return torch.sigmoid(unit(patches) @ (text[1] - text[0]) / TEMPERATURE)


def evidence(probabilities: Float[Tensor, "b l p"]) -> Float[Tensor, "b p"]:
    """As released, the sum over layers, not the mean: in [0, l]. What follows, upsampling and smoothing, is linear."""
    return probabilities.sum(dim=1)
