"""What the losses of a process's share of a batch need to know of the whole, so that together they are its losses."""

import torch
from torch import Tensor
from torch import distributed as dist

from cops_lightning.core.distributed import world_size
from cops_lightning.core.types import Features, Masks, Share
from cops_lightning.data.samplers import SharedBatches
from cops_lightning.models.cops.losses import count_pixels


def share_of(
    batches: SharedBatches, batch_idx: int, features: Features, masks: Masks | None, patch_size: int
) -> Share | None:
    """This process's share of a batch, None for a process that has all of it. All processes must call this together.

    Averaged over processes, as DDP averages gradients, the weighted losses are those of one process with the whole
    batch. Where a share has no patches of a kind, its gather or scatter loss is a constant without a gradient: DDP
    needs `find_unused_parameters`, as the queries are then unused in this process, or in all.
    """
    if world_size() == 1:
        return None
    own, whole = batches.own(batch_idx), batches.whole(batch_idx)
    scale = world_size() * own / whole
    weights: dict[str, float | Tensor] = dict.fromkeys(("image", "patch", "kl", "recon"), scale)
    if masks is not None:
        # Gather and scatter are means over patches, whose numbers differ between shares.
        touched = count_pixels(masks, patch_size).touched
        here = torch.stack([(~touched).sum(), touched.sum()]).float()
        there = here * (own > 0)
        dist.all_reduce(there)
        ratio = world_size() * (own > 0) * here.clamp(min=1) / there.clamp(min=1)
        weights |= {"gather": ratio[0], "scatter": ratio[1]}
    # A process without an image of its own has one that does not count.
    return Share(weights, _all_images(features.image, batches, batch_idx), lambda sums: _total(sums * (own > 0)))


def _total(sums: Tensor) -> Tensor:
    whole = sums.detach().clone()
    dist.all_reduce(whole)
    return whole + world_size() * (sums - sums.detach())


def _all_images(image: Tensor, batches: SharedBatches, batch_idx: int) -> Tensor:
    """Global features of the whole batch, in an order of no meaning."""
    own, most = batches.own(batch_idx), batches.own(batch_idx, of=0)
    padded = image.new_zeros(most, image.shape[1])
    padded[:own] = image[:own]
    parts = [torch.empty_like(padded) for _ in range(world_size())]
    dist.all_gather(parts, padded)
    return torch.cat([part[: batches.own(batch_idx, of=at)] for at, part in enumerate(parts)])


def mean_over_processes(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each value averaged over processes, in one exchange."""
    if world_size() == 1:
        return values
    stacked = torch.stack(list(values.values()))
    dist.all_reduce(stacked)
    return dict(zip(values, stacked / world_size(), strict=True))
