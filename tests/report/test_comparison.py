"""Variants beside each other, over seeds."""

import io

import pytest
from rich.console import Console

from cops_lightning.core.types import MEAN, MetricRow
from cops_lightning.report.comparison import comparison_table
from cops_lightning.report.tables import ResultRow, Run


def row(variant, seed, target, value, level="image", category=MEAN, metric="auroc"):
    measured = MetricRow(target, category, level, metric, value, 5, 5)
    return ResultRow(Run(f"{variant}-{seed}", "study", variant, seed, "aux"), measured)


def lines(*rows, **options):
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(comparison_table(rows, "Title", **options))
    return console.export_text().splitlines()


def line_of(variant, printed):
    return next(line for line in printed if line.strip().startswith(variant))


def test_a_cell_is_mean_and_sample_standard_deviation_over_seeds():
    # 70, 80, 90: mean 80, deviations -10, 0, 10, so the variance is 200 / 2.
    printed = lines(*(row("cops", seed, "tiles", value) for seed, value in enumerate((0.7, 0.8, 0.9))))
    assert line_of("cops", printed).split() == ["cops", "80.0", "±", "10.0", "3"]


def test_one_seed_has_no_spread():
    assert line_of("clip", lines(row("clip", 0, "tiles", 0.654))).split() == ["clip", "65.4", "1"]


def test_a_group_is_averaged_within_each_seed_first():
    # Seed means 0.6 and 0.8: 70 with standard deviation 14.1; the four values themselves would give 18.3.
    values = {("a", 0): 0.5, ("b", 0): 0.7, ("a", 1): 0.7, ("b", 1): 0.9}
    printed = lines(*(row("cops", s, t, v) for (t, s), v in values.items()), groups={"both": ["a", "b"]})
    assert line_of("cops", printed).split() == ["cops", "70.0", "±", "14.1", "2"]
    assert any("both" in line for line in printed)


def test_variants_keep_their_order_and_undefined_values_are_said():
    printed = lines(
        row("first", 0, "tiles", 0.5, "pixel"), row("a", 0, "tiles", 0.6), row("a", 0, "tiles", None, "pixel")
    )
    assert line_of("first", printed).split() == ["first", "50.0", "n/a", "1"]
    assert line_of("a ", printed).split() == ["a", "n/a", "60.0", "1"]
    assert printed.index(line_of("first", printed)) < printed.index(line_of("a ", printed))


def test_categories_and_other_metrics_are_left_out():
    printed = lines(
        row("cops", 0, "tiles", 0.5), row("cops", 0, "tiles", 0.9, category="x"), row("cops", 0, "t", 0.9, metric="ap")
    )
    assert line_of("cops", printed).split() == ["cops", "50.0", "1"]


def test_two_values_of_one_seed_are_refused():
    with pytest.raises(ValueError, match="Select one study"):
        comparison_table([row("cops", 0, "tiles", 0.5), row("cops", 0, "tiles", 0.6)], "Title")
