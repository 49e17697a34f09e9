import socket
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.classification import BinaryRecall

from commands import FORKS
from cops_lightning.core.errors import ScoresError
from cops_lightning.core.measured import MetricRow
from cops_lightning.metrics.suite import MetricSuite

N, GRID, SIDE = 12, 3, 12


def expand(patches):
    """Nearest upsampling, from module level so that another process finds it."""
    maps = patches.view(-1, GRID, GRID)
    return maps.repeat_interleave(SIDE // GRID, 1).repeat_interleave(SIDE // GRID, 2)


def images(n: int = N, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    masks = torch.zeros(n, SIDE, SIDE)
    masks[labels == 1, 2:7, 3:6] = 1
    return {
        "image_scores": torch.rand(n, generator=generator) + 0.3 * labels,
        "patch_scores": torch.rand(n, GRID**2, generator=generator) + 0.3 * labels[:, None],
        "masks": masks,
        "labels": labels,
        "categories": ["bolt" if index % 4 < 2 else "nut" for index in range(n)],
        "keys": [f"image {index}" for index in range(n)],
    }


def take(batch: dict, indices) -> dict:
    """Some images of a batch."""
    return {
        name: None if values is None else values[indices] if torch.is_tensor(values) else [values[i] for i in indices]
        for name, values in batch.items()
    }


def evaluate(*batches: dict, target: str = "parts", **options) -> list[MetricRow]:
    suite = MetricSuite(target, expand, **options)
    for batch in batches:
        suite.update(**batch)
    return suite.rows()


def value(rows: list[MetricRow], category: str, level: str, metric: str) -> float | None:
    (row,) = (row for row in rows if (row.category, row.level, row.metric) == (category, level, metric))
    return row.value


def test_rows_name_every_metric_of_every_category_and_their_mean():
    rows = evaluate(images())
    assert [row.category for row in rows] == ["bolt"] * 7 + ["nut"] * 7 + ["mean"] * 7
    names = [(row.level, row.metric) for row in rows[:7]]
    assert names == [("image", m) for m in ("auroc", "ap", "f1_max")] + [
        ("pixel", m) for m in ("auroc", "ap", "f1_max", "aupro")
    ]
    assert {row.target for row in rows} == {"parts"}
    assert [(row.n_normal, row.n_anomalous) for row in rows[::7]] == [(3, 3), (3, 3), (6, 6)]
    assert all(0 <= row.value <= 1 for row in rows)


def test_a_perfect_method_scores_one_everywhere():
    batch = images()
    batch["masks"] = expand(torch.eye(3).flatten() * batch["labels"][:, None])
    batch["image_scores"] = batch["labels"].float()
    batch["patch_scores"] = torch.eye(3).flatten() * batch["labels"][:, None]
    assert [row.value for row in evaluate(batch)] == pytest.approx([1] * 21)


def test_the_mean_is_over_categories_not_over_images():
    rows = evaluate(images())
    both = [value(rows, category, "image", "auroc") for category in ("bolt", "nut")]
    assert both[0] != both[1]
    assert value(rows, "mean", "image", "auroc") == np.mean(both)


@pytest.mark.slow
@given(order=st.permutations(range(N)), size=st.integers(1, N))
@settings(deadline=None, max_examples=25)
def test_batch_size_and_order_change_no_digit(order, size):
    batches = [take(images(), order[start : start + size]) for start in range(0, N, size)]
    assert evaluate(*batches) == evaluate(images())


def test_the_budget_changes_no_result():
    assert [row.value for row in evaluate(images(), budget=7)] == pytest.approx(
        [row.value for row in evaluate(images())]
    )


def test_an_image_seen_again_counts_once():
    assert evaluate(images(), take(images(), [3, 3, 0])) == evaluate(images())


@pytest.mark.parametrize("name", ["", "a\0b", "bolt\0", "a\nb", '"', "caf\udce9", "\u2028"])
def test_a_category_is_called_what_it_is_called(name):
    batch = images()
    batch["categories"] = [name if category == "nut" else category for category in batch["categories"]]
    batch["keys"] = [f"{name}/{key}" for key in batch["keys"]]
    renamed = {replace(row, category=name) if row.category == "nut" else row for row in evaluate(images())}
    assert set(evaluate(batch)) == renamed


def test_images_without_keys_all_count():
    batch = images() | {"keys": None}
    rows = evaluate(batch, batch)
    assert rows[-1].n_normal == 2 * (N // 2)


def test_the_mean_is_over_the_categories_that_define_the_metric():
    batch = images()
    odd = [i for i, category in enumerate(batch["categories"]) if category == "nut" and batch["labels"][i] == 0]
    kept = [i for i in range(N) if i not in odd]
    rows = evaluate(take(batch, kept))  # nut is left without normal images
    for metric in ("auroc", "ap", "f1_max"):
        assert value(rows, "nut", "image", metric) is None
        assert value(rows, "mean", "image", metric) == value(rows, "bolt", "image", metric)
    assert value(rows, "nut", "pixel", "aupro") is not None


def test_without_masks_there_are_no_pixel_metrics():
    rows = evaluate(images() | {"masks": None})
    assert all((row.value is None) == (row.level == "pixel") for row in rows)


def test_normal_images_alone_define_nothing():
    batch = take(images(), range(0, N, 2))
    assert {row.value for row in evaluate(batch)} == {None}


def test_one_category_may_have_masks_where_another_has_none():
    batch = images()
    bolts = [i for i in range(N) if batch["categories"][i] == "bolt"]
    nuts = [i for i in range(N) if batch["categories"][i] == "nut"]
    rows = evaluate(take(batch, nuts) | {"masks": None}, take(batch, bolts))
    assert value(rows, "bolt", "pixel", "ap") == value(evaluate(batch), "bolt", "pixel", "ap")
    assert value(rows, "nut", "pixel", "ap") is None


def test_masks_for_some_images_of_a_category_are_refused():
    batch = images()
    with pytest.raises(ValueError, match=r"parts: 2 of 6 images of bolt came with masks"):
        evaluate(take(batch, range(4)), take(batch, range(4, N)) | {"masks": None})


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("scores", ["image_scores", "patch_scores"])
def test_scores_that_are_not_finite_are_refused_by_the_name_of_their_category(bad, scores):
    batch = images()
    batch[scores][2] = bad
    with pytest.raises(ScoresError, match=r"parts: scores that are not finite in nut \(1 of 12 images"):
        evaluate(batch)


def test_sizes_that_do_not_fit_are_refused():
    batch = images()
    with pytest.raises(ValueError, match="parts: 12 images came with 1 categories and 12 keys"):
        evaluate(batch | {"categories": ["bolt"]})
    with pytest.raises(ValueError, match="parts: a batch with 4 patches, after batches with 9"):
        evaluate(batch, batch | {"patch_scores": torch.rand(N, 4)})
    with pytest.raises(ValueError, match="parts: a batch with 8 mask rows, after batches with 12"):
        evaluate(batch, batch | {"masks": torch.zeros(N, 8, 8)})


def test_an_evaluation_without_images_is_refused():
    with pytest.raises(ValueError, match="parts: no image was evaluated"):
        evaluate(take(images(), torch.arange(0)))


def test_a_reset_suite_starts_afresh():
    suite = MetricSuite("parts", expand)
    suite.update(**images(seed=1))
    suite.reset()
    suite.update(**images())
    assert suite.rows() == evaluate(images())


def test_an_image_takes_its_scores_and_a_bit_per_pixel():
    suite = MetricSuite("parts", expand)
    suite.update(**images())
    kept = sum(part.numel() * part.element_size() for state in suite.metric_state.values() for part in state)
    names = sum(len(f'"{category}"\n') for category in images()["categories"])
    assert kept == N * (4 * GRID**2 + SIDE**2 // 8 + 8 + 8 + 1 + 1) + names  # + image score, key, label, has mask


def test_half_precision_scores_are_taken():
    batch = images()
    half = {name: batch[name].half() for name in ("image_scores", "patch_scores")}
    assert evaluate(batch | half) == evaluate(batch | {name: scores.float() for name, scores in half.items()})


def test_progress_counts_the_images_of_the_target():
    told = []
    suite = MetricSuite("parts", expand)
    suite.update(**images())
    suite.rows(progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (N, N)


def evaluate_in_a_process(rank: int, port: int, shares: list[list[int]], queue) -> None:
    torch.distributed.init_process_group("gloo", f"tcp://localhost:{port}", rank=rank, world_size=len(shares))
    suite = MetricSuite("parts", expand)
    suite.update(**take(images(), shares[rank]))
    queue.put((rank, suite.rows()))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_unequal_and_overlapping_shares_give_the_rows_of_one():
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    shares = [[5, 4, 0, 1, 2, 3, 11], [6, 7, 8, 9, 10, 0]]
    queue = FORKS.Queue()
    workers = [FORKS.Process(target=evaluate_in_a_process, args=(r, port, shares, queue)) for r in (0, 1)]
    for worker in workers:
        worker.start()
    results = dict(queue.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join()
    assert results[0] == results[1] == evaluate(images())


def test_it_is_a_metric_of_torchmetrics_whose_numbers_are_those_of_the_rows():
    suite = MetricSuite("parts", expand)
    suite.update(**images())
    found = suite.compute()
    expected = {
        f"{'' if row.category == 'mean' else f'{row.category}/'}{row.level}_{row.metric}": row.value
        for row in suite.rows()
    }
    assert {name: number.item() for name, number in found.items()} == expected
    copy = suite.clone()
    copy.reset()
    copy.update(**images(seed=1))
    assert suite.rows() == evaluate(images())


def test_further_metrics_get_scores_and_labels_of_a_category_each_from_a_fresh_copy():
    more = {"image": {"recall": BinaryRecall(threshold=0.0)}, "pixel": {"recall": BinaryRecall(threshold=0.0)}}
    rows = evaluate(images(), more=more)
    assert [row.category for row in rows] == ["bolt"] * 9 + ["nut"] * 9 + ["mean"] * 9
    # Every score is above 0, so everything anomalous is found.
    assert {value(rows, c, level, "recall") for c in ("bolt", "nut", "mean") for level in ("image", "pixel")} == {1.0}
    without = evaluate(images() | {"masks": None}, more=more)
    assert value(without, "mean", "pixel", "recall") is None
    assert not more["image"]["recall"].update_called
