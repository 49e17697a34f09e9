"""Processes that share a batch have together the losses and gradients of one process with all of it."""

import socket
from datetime import timedelta

import pytest
import torch
import torch.multiprocessing as mp
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from cops_lightning.core.distributed import from_all, from_first
from cops_lightning.core.types import Features
from cops_lightning.data.samplers import EpochShuffle, SharedBatches
from cops_lightning.models.bayes_pfl import BayesPFL, Sizes
from cops_lightning.models.cops import Readings
from cops_lightning.models.sharing import mean_over_processes, share_of
from released import released_cops

PROCESSES = 2
# With batches of 4, 9 images end in a batch of 1: the second process has no image of its own.
IMAGES, BATCH = 9, 4
# A method, its reconstruction loss or stage of training, and whether there are masks.
CASES = [("cops", recon, masked) for recon in ("released", "matched") for masked in (True, False)]
CASES += [("bayes_pfl", 1, True), ("bayes_pfl", 1, False), ("bayes_pfl", 2, True)]


def share(images: int, batch: int, rank: int, processes: int) -> SharedBatches:
    shared = SharedBatches(EpochShuffle(images, seed=3), batch)
    shared.rank, shared.processes = rank, processes
    return shared


@given(images=st.integers(1, 40), batch=st.integers(1, 9), processes=st.integers(1, 5))
def test_every_image_is_trained_on_once_in_the_batches_of_one_process(images, batch, processes):
    alone = list(share(images, batch, 0, 1))
    shares = [share(images, batch, rank, processes) for rank in range(processes)]
    assert {len(one) for one in shares} == {len(alone)}, "every process makes the same number of steps"
    for at, (whole, *parts) in enumerate(zip(alone, *shares, strict=True)):
        counted = [place for one, part in zip(shares, parts, strict=True) for place in part[: one.own(at)]]
        assert sorted(counted) == sorted(whole)
        assert all(parts), "no process is left without an image"
        assert {one.whole(at) for one in shares} == {len(whole)}


def problem(states, method: str, what: str | int, masked: bool):
    if method == "cops":
        # As released, gradients of deep tokens are rounded to half precision, which a last bit can turn either way.
        model = released_cops(states[method], None, "mvtec", 48, readings=Readings(recon=what, deep="exact"))
    else:
        model = BayesPFL.from_released(states[method], None, 48, sizes=Sizes(2, 2, 3, 2))
        model.training_stage = what
    tower, generator = model.backbone.tower(48), torch.Generator().manual_seed(4)
    images = torch.randn(IMAGES, 48, generator=generator)
    patches = torch.randn(IMAGES, *(model.request.patch_shape(tower) or (36, 48)), generator=generator)
    masks = torch.zeros(IMAGES, 48, 48)
    for number in (2, 6):
        masks[number, : 5 * number, 10:40] = 1
    return model, Features(images, patches), masks if masked else None, (torch.arange(IMAGES) + 1) % 2


class Losses(nn.Module):
    """A step as DDP sees it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, features, masks, labels, draws, share):
        return self.model.losses(features, masks, labels, draws, share)


def steps(model, features, masks, labels):
    """Losses of every batch of an epoch, and the gradients after each: None of what no loss of the batch trains."""
    batches = SharedBatches(EpochShuffle(IMAGES, seed=0), BATCH)
    step = Losses(model)
    if dist.is_initialized():
        step = DistributedDataParallel(step, find_unused_parameters=True)
    losses, gradients = [], []
    for at, places in enumerate(batches):
        part = Features(features.image[places], features.patches[places])
        own_masks = None if masks is None else masks[places]
        whole = share_of(batches, at, part, own_masks, 8)
        draws = model.training_draws([f"image {place}" for place in places], epoch=0, step=at)
        found = step(part, own_masks, labels[places], draws, whole)
        model.zero_grad()
        found["total"].backward()
        losses.append(mean_over_processes({name: value.detach() for name, value in found.items()}))
        gradients.append({name: None if p.grad is None else p.grad.clone() for name, p in model.released_parameters()})
    return losses, gradients


def work(rank: int, port: int, states, out: str) -> None:
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=PROCESSES,
        timeout=timedelta(seconds=120),
    )
    found = {
        "cases": [steps(*problem(states, *case)) for case in CASES],
        "first": from_first(f"process {rank}"),
        "all": from_all(rank),
    }
    torch.save(found, f"{out}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def states(tiny_clip_state, wordy_clip_state):
    """The weights of each method's CLIP."""
    return {"cops": tiny_clip_state, "bayes_pfl": wordy_clip_state}


@pytest.fixture(scope="module")
def shared(states, tmp_path_factory):
    """What each process found."""
    out = tmp_path_factory.mktemp("shared")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.start_processes(work, (port, states, str(out)), nprocs=PROCESSES, start_method="forkserver")
    return [torch.load(out / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("case", CASES, ids=["-".join(map(str, case)) for case in CASES])
def test_two_processes_have_the_losses_and_gradients_of_one(case, shared, states):
    losses, gradients = steps(*problem(states, *case))
    for found in shared:
        shared_losses, shared_gradients = found["cases"][CASES.index(case)]
        for one, other in zip(losses, shared_losses, strict=True):
            assert set(one) == set(other)
            for name in one:
                torch.testing.assert_close(other[name], one[name], rtol=2e-6, atol=1e-6)
        for one, other in zip(gradients, shared_gradients, strict=True):
            for name, gradient in one.items():
                assert (gradient is None) == (other[name] is None), name
                if gradient is not None:
                    torch.testing.assert_close(other[name], gradient, rtol=1e-4, atol=1e-5)


def test_a_batch_without_an_anomalous_pixel_leaves_the_anomalous_queries_without_a_gradient(shared, states):
    case = ("cops", "released", True)
    trains = [gradients["t_a"] is not None for gradients in steps(*problem(states, *case))[1]]
    assert set(trains) == {True, False}, "the epoch has batches of both kinds"
    for found in shared:
        gradients = found["cases"][CASES.index(case)][1]
        assert [gradient["t_a"] is not None for gradient in gradients] == trains
        assert all(gradient["t_n"] is not None for gradient in gradients)


def test_processes_tell_each_other_values(shared):
    assert [found["first"] for found in shared] == ["process 0"] * PROCESSES
    assert [found["all"] for found in shared] == [[0, 1]] * PROCESSES
