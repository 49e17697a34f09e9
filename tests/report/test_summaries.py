"""Methods beside each other, over seeds."""

import io

import pandas as pd
from rich.console import Console

from cops_lightning.core.measured import MEAN
from cops_lightning.report.summaries import comparison_table


def row(method, seed, target, value, level="image", category=MEAN, metric="auroc", auxiliary="parts"):
    """A row as `percent` gives it."""
    return {"method": method, "seed": seed, "dataset": target, "value": value, "level": level, "category": category,
            "metric": metric, "auxiliary": auxiliary, "seen": auxiliary == target}  # fmt: skip


def lines(*rows):
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(comparison_table(pd.DataFrame(rows), "Title"))
    return [line.split() for line in console.export_text().splitlines()]


def test_a_cell_is_mean_and_sample_standard_deviation_over_seeds():
    # 70, 80, 90: mean 80, deviations -10, 0, 10, so the variance is 200 / 2.
    printed = lines(*(row("cops", seed, "tiles", value) for seed, value in enumerate((70.0, 80.0, 90.0))))
    assert ["cops", "80.0", "±", "10.0", "3"] in printed


def test_one_seed_has_no_spread():
    assert ["clip", "65.4", "1"] in lines(row("clip", 0, "tiles", 65.4))


def test_the_mean_over_targets_is_taken_within_each_seed_first():
    # Seed means 60 and 80: 70 with standard deviation 14.1; the four values themselves would give 16.3.
    values = {("a", 0): 50.0, ("b", 0): 70.0, ("a", 1): 70.0, ("b", 1): 90.0}
    printed = lines(*(row("cops", s, t, v) for (t, s), v in values.items()))
    of_a, of_b = ["60.0", "±", "14.1"], ["80.0", "±", "14.1"]
    assert ["cops", *of_a, *of_b, "70.0", "±", "14.1", "2"] in printed


def test_a_mean_over_targets_needs_all_of_them():
    printed = lines(row("all", 0, "a", 50.0), row("all", 0, "b", 70.0), row("one", 0, "a", 90.0))
    assert ["all", "50.0", "70.0", "60.0", "1"] in printed
    assert ["one", "90.0", "n/a", "n/a", "1"] in printed


def test_a_table_that_would_be_wider_than_long_has_a_line_per_target_and_level():
    both = [("clip", 20.0), ("cops", 30.0)]
    names = [f"target{number}" for number in range(3)]
    values = [
        (m, t, value + k, level) for m, value in both for t in names for k, level in enumerate(("image", "pixel"))
    ]
    printed = lines(*(row(method, 0, target, value, level) for method, target, value, level in values))
    assert ["method", "clip", "cops"] in printed
    assert ["target2,", "pixel", "21.0", "31.0"] in printed
    assert ["mean", "of", "targets,", "image", "20.0", "30.0"] in printed
    assert ["seeds", "1", "1"] in printed


def test_of_many_targets_the_mean_stands_alone():
    printed = lines(*(row("cops", 0, f"target{number}", 10.0 * number) for number in range(9)))
    assert ["cops", "40.0", "1"] in printed


def test_a_target_that_was_trained_on_has_no_value():
    printed = lines(row("cops", 0, "parts", 90.0), row("cops", 0, "tiles", 50.0))
    assert ["cops", "50.0", "1"] in printed


def test_the_best_method_comes_last_and_undefined_values_are_said():
    printed = lines(
        row("low", 0, "tiles", 50.0, "pixel"), row("high", 0, "tiles", 60.0), row("high", 0, "tiles", None, "pixel")
    )
    assert printed.index(["low", "50.0", "n/a", "1"]) < printed.index(["high", "n/a", "60.0", "1"])


def test_categories_and_other_metrics_are_left_out():
    others = row("cops", 0, "tiles", 90.0, category="part"), row("cops", 0, "tiles", 90.0, metric="ap")
    assert ["cops", "50.0", "1"] in lines(row("cops", 0, "tiles", 50.0), *others)


def test_auxiliary_datasets_are_never_averaged_together():
    printed = lines(row("cops", 0, "tiles", 50.0), row("cops", 0, "tiles", 70.0, auxiliary="visa"))
    assert ["cops,", "on", "parts", "50.0", "1"] in printed
    assert ["cops,", "on", "visa", "70.0", "1"] in printed
