"""What is measured besides time: operations, memory, and in which order."""

import sys
from unittest.mock import patch

import pytest
import torch

from cops_lightning.benchmark.baseline import encode_image
from cops_lightning.benchmark.measure import (
    PEAK_SIDE,
    Way,
    counted_operations,
    largest_difference,
    matrix_peak,
    measure,
)
from cops_lightning.clip import image_encoder as image_module
from cops_lightning.clip.image_encoder import ImageEncoder
from cops_lightning.clip.weights import clip_from_state
from tiny import TINY

CPU = torch.device("cpu")
IMAGE, PATCH, WIDTH, LAYERS, JOINT = 48, 8, 64, 2, 48


@pytest.fixture(autouse=True, scope="module")
def _small_products():
    """The product that a machine's peak is read off takes seconds at its own size."""
    with patch.dict(PEAK_SIDE, cpu=64):
        yield


def encoder_flops(last_original_tokens: int, value_queries: int) -> int:
    """Operations of the image tower by hand: 2 per weight and token, and 4 per query, key and channel of attention."""
    patches = (IMAGE // PATCH) ** 2
    tokens = patches + 1
    flops = 2 * patches * 3 * PATCH**2 * WIDTH  # patch embedding
    for layer in range(LAYERS):
        own = tokens if layer < LAYERS - 1 else last_original_tokens
        flops += 2 * (own + 2 * tokens) * WIDTH**2  # queries, and keys with values
        flops += 4 * (own + value_queries) * tokens * WIDTH  # attention of both paths
        flops += 2 * (own + value_queries) * WIDTH**2  # output projection of both paths
        flops += 2 * own * 8 * WIDTH**2  # MLP, four times as wide inside
    return flops + 2 * (1 + patches) * WIDTH * JOINT


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(1, 3, IMAGE, IMAGE)


def test_the_sizes_used_here_are_those_of_the_tiny_clip():
    vision = TINY["vision_cfg"]
    assert (vision["patch_size"], vision["width"], vision["layers"]) == (PATCH, WIDTH, LAYERS)
    assert TINY["embed_dim"] == JOINT


@pytest.mark.parametrize("onednn", [True, False])
def test_counted_operations_of_the_encoder_equal_those_by_hand(tiny_clip_state, images, monkeypatch, onednn):
    if not onednn:
        monkeypatch.setattr(image_module, "onednn_takes", lambda _dtype: False)
    encoder = ImageEncoder(clip_from_state(tiny_clip_state).clip.visual)
    with counted_operations() as counter:
        encoder(images)
    assert counter.get_total_flops() == encoder_flops(last_original_tokens=1, value_queries=36)


def test_counted_operations_of_the_baseline_equal_those_by_hand(tiny_model, images):
    with counted_operations() as counter:
        encode_image(tiny_model.backbone.clip.visual, images)
    assert counter.get_total_flops() == encoder_flops(last_original_tokens=37, value_queries=37)


def test_operations_of_attentions_backward_pass_are_five_products():
    q = torch.randn(1, 2, 10, 8, requires_grad=True)
    with counted_operations() as forward:
        mixed = torch.nn.functional.scaled_dot_product_attention(q, q, q)
    assert forward.get_total_flops() == 4 * 2 * 10 * 10 * 8
    with counted_operations() as backward:
        mixed.sum().backward()
    assert backward.get_total_flops() == forward.get_total_flops() * 5 // 2


def ways(log: list[str], **outputs: float) -> dict[str, Way]:
    def way(name: str, value: float) -> Way:
        def run():
            log.append(name)
            return (torch.tensor(value),)

        return run

    return {name: way(name, value) for name, value in outputs.items()}


def test_ways_warm_up_once_and_then_take_turns():
    log: list[str] = []
    measured = measure(ways(log, ours=1.0, plain=2.0), CPU, repeats=2, budget=1000.0)
    assert log == ["ours", "plain"] * 3
    assert [len(m.seconds) for m in measured.values()] == [2, 2]
    assert [m.outputs[0].item() for m in measured.values()] == [1.0, 2.0]


def test_an_exhausted_budget_ends_the_turns_after_one():
    log: list[str] = []
    measured = measure(ways(log, ours=1.0), CPU, repeats=50, budget=0.0)
    assert len(measured["ours"].seconds) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory of the process is read from Linux")
def test_peak_memory_counts_what_a_way_needed_although_it_was_given_back():
    size = 64 * 2**20
    hungry = {"hungry": lambda: (torch.ones(size, dtype=torch.uint8)[:1].clone(),)}
    measured = measure(hungry, CPU, repeats=1, budget=0.0)["hungry"]
    assert measured.host_bytes is not None
    # The system counts pages in batches, so a few may be missing.
    assert 0.99 * size < measured.host_bytes < 2 * size


def test_the_largest_difference_is_over_all_outputs():
    first, second = (torch.zeros(2), torch.ones(1)), (torch.tensor([0.0, 0.25]), torch.tensor([0.5]))
    assert largest_difference(first, second) == 0.5


def test_the_matrix_peak_is_a_rate():
    assert matrix_peak(torch.float32, CPU) > 0
