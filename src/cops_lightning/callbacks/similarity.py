"""How alike the two prompts and the prototypes are: whether training tells them apart, or lets them collapse."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cops_lightning.models.anomaly_map import Prototypes
from cops_lightning.models.cops import CoPS
from cops_lightning.models.cops.prompt_learner import PromptLearner


def prototype_similarities(prototypes: Float[Tensor, "b 2 k d"]) -> dict[str, float]:
    """Mean cosine over images and pairs: between normal and anomalous prototypes, and of each kind among themselves.

    A single prototype per state has no pair of its kind: those two are then absent.
    """
    b, _, k, _ = prototypes.shape
    unit = F.normalize(prototypes.detach().float(), dim=-1).flatten(1, 2)
    cosines = unit @ unit.mT
    normal, anomalous = cosines[:, :k, :k], cosines[:, k:, k:]
    found = {"similarity/prototypes_across": cosines[:, :k, k:].mean().item()}
    if k > 1:
        for name, block in (("normal", normal), ("anomalous", anomalous)):
            trace = block.diagonal(dim1=1, dim2=2).sum()
            found[f"similarity/prototypes_{name}"] = ((block.sum() - trace) / (b * k * (k - 1))).item()
    return found


def token_similarities(learner: PromptLearner) -> dict[str, float]:
    """Mean cosine of the learnt tokens of both prompts at the same position, for context, state and class tokens."""
    cosines = F.cosine_similarity(learner.ctx_pos.detach().float(), learner.ctx_neg.detach().float(), dim=-1)
    sizes = [learner.context, learner.prototypes, learner.classes]
    parts = zip(("context", "state", "class"), torch.split(cosines[0, 0], sizes), strict=True)
    return {f"similarity/{name}_tokens": part.mean().item() for name, part in parts if part.numel()}


@torch.no_grad()
def prompt_similarity(
    model: CoPS, stacked: Float[Tensor, "b 2 k d"] | None, biases: Float[Tensor, "b m d"] | None
) -> dict[str, float]:
    """Cosine of the normal and the anomalous prompt of the images that these prototypes and biases are of, averaged."""
    prototypes = None if stacked is None else Prototypes(*stacked.unbind(dim=1))
    normal, anomalous = model.text_features(prototypes, biases).float().unbind(dim=1)
    return {"similarity/prompts": F.cosine_similarity(normal, anomalous, dim=-1).mean().item()}
