"""In which order images are served, and which process of a distributed run gets which of them."""

from collections.abc import Iterator, Sized

import torch
from torch.utils.data import Sampler
from torch.utils.data.distributed import DistributedSampler

from cops_lightning.core.distributed import rank, world_size
from cops_lightning.core.seeding import named_generator


class EpochShuffle(Sampler[int]):
    """A permutation that is a function of (seed, epoch), so that a resumed run sees the same order."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = named_generator(self.seed, "shuffle", self.epoch)
        return iter(torch.randperm(self.size, generator=generator).tolist())

    def __len__(self) -> int:
        return self.size


class SharedBatches(Sampler[list[int]]):
    """Batches of a run of any number of processes, of which each process takes its share.

    `sampler` gives the same order to every process, and `batch_size` is that of the whole batch: what is trained on
    does not depend on the number of processes. Where there are fewer images than processes, a process without one gets
    the batch's first, for which `own` does not count.
    """

    def __init__(self, sampler: EpochShuffle, batch_size: int) -> None:
        self.sampler, self.batch_size = sampler, batch_size
        self.rank, self.processes = rank(), world_size()

    def __iter__(self) -> Iterator[list[int]]:
        order = list(self.sampler)
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            yield batch[self.rank :: self.processes] or batch[:1]

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.batch_size)

    def whole(self, batch_idx: int) -> int:
        """Images of a batch of an epoch, over all processes."""
        return min(self.batch_size, len(self.sampler) - batch_idx * self.batch_size)

    def own(self, batch_idx: int, of: int | None = None) -> int:
        """How many images of a batch this process, or process `of`, has to itself."""
        return len(range(self.rank if of is None else of, self.whole(batch_idx), self.processes))


class Strided(DistributedSampler[int]):
    """Every image once, in order; of n processes each gets every n-th.

    Lightning leaves a DistributedSampler as it is. One of torch's own would repeat images where they do not divide.
    """

    def __init__(self, dataset: Sized) -> None:
        self.places = range(rank(), len(dataset), world_size())

    def set_epoch(self, epoch: int) -> None:
        """The order is the same in every epoch."""

    def __iter__(self) -> Iterator[int]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)
