"""The semantic fusion: one feature of an image from clusters of its most anomalous patches."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from cops_lightning.models.alignment import unit

# Patches that are clustered, per cluster.
PER_CLUSTER = 5


def most_anomalous(evidence: Float[Tensor, "b p"], clusters: int) -> Int[Tensor, "b k"]:
    """The patches of each image that are clustered, in order of place: all if there are few."""
    count = min(evidence.shape[1], PER_CLUSTER * clusters)
    return evidence.topk(count, dim=1).indices.sort(dim=1).values


def chosen(patches: Float[Tensor, "b l p d"], selected: Int[Tensor, "b k"]) -> Float[Tensor, "b l k d"]:
    """The features of these patches in every layer."""
    b, layers, _, d = patches.shape
    return patches.gather(2, selected[:, None, :, None].expand(b, layers, -1, d))


@torch.no_grad()
def cluster(patches: Float[Tensor, "b l k d"], clusters: int, seeds: Int[Tensor, " b"]) -> Int[Tensor, "b k"]:
    """k-means of each image's patches by their features of all layers; each image has a seed of its own.

    Fewer distinct patches than `clusters` make as many clusters as they are.
    """
    from sklearn.cluster import KMeans  # here, as it takes a second

    rows = patches.transpose(1, 2).flatten(2).float().cpu()
    labels = [
        torch.from_numpy(KMeans(min(clusters, len(own.unique(dim=0))), random_state=int(seed)).fit_predict(own.numpy()))
        for own, seed in zip(rows, seeds, strict=True)
    ]
    return torch.stack(labels).long().to(patches.device)


def fused(patches: Float[Tensor, "b l k d"], labels: Int[Tensor, "b k"]) -> Float[Tensor, "b d"]:
    """Unit mean over clusters of the mean over a cluster's patches and all layers: small clusters count like large."""
    members = F.one_hot(labels).to(patches.dtype)
    sizes = members.sum(dim=1)
    clusters = (sizes > 0).sum(dim=1, keepdim=True)
    weights = 1 / (clusters * sizes.gather(1, labels))
    return unit((weights[:, None] @ patches.mean(dim=1))[:, 0])
