"""In which order images are served, and which process gets which."""

from itertools import chain

import pytest
from torch.utils.data.distributed import DistributedSampler

from cops_lightning.data.samplers import EpochShuffle, SharedBatches, Strided


def test_every_epoch_has_its_own_order_which_the_seed_decides():
    sampler = EpochShuffle(20, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
    sampler.set_epoch(0)
    assert list(sampler) == first != list(EpochShuffle(20, seed=1))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_share_every_batch_of_one_process(processes: int):
    alone = list(SharedBatches(EpochShuffle(10, seed=0), 4))
    shares = []
    for rank in range(processes):
        shared = SharedBatches(EpochShuffle(10, seed=0), 4)
        shared.rank, shared.processes = rank, processes
        batches = list(shared)
        assert len(batches) == len(shared) == 3
        shares.append([batch[: shared.own(place)] for place, batch in enumerate(batches)])
    assert [sorted(chain.from_iterable(parts)) for parts in zip(*shares, strict=True)] == [
        sorted(batch) for batch in alone
    ]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_evaluate_every_image_once(processes: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cops_lightning.data.samplers.world_size", lambda: processes)
    places = []
    for rank in range(processes):
        monkeypatch.setattr("cops_lightning.data.samplers.rank", lambda own=rank: own)
        sampler = Strided(range(7))
        assert len(list(sampler)) == len(sampler)
        assert list(sampler) == sorted(sampler)
        places += list(sampler)
    assert sorted(places) == list(range(7))


def test_lightning_leaves_the_order_of_evaluation_alone():
    assert isinstance(Strided(range(3)), DistributedSampler)
