"""What an evaluation has to show."""

from cops_lightning.core.measured import MEAN, MetricRow
from cops_lightning.loggers import Evaluation


def row(target: str, category: str, level: str, value: float | None) -> MetricRow:
    return MetricRow(target, category, level, "auroc", value, 2, 3)


def test_scalars_are_means_over_categories_and_over_the_targets_that_define_them(tmp_path):
    rows = [
        row("a", "bottle", "image", 0.5),
        row("a", MEAN, "image", 0.5),
        row("a", MEAN, "pixel", None),
        row("b", MEAN, "image", 0.75),
        row("b", MEAN, "pixel", 0.9),
    ]
    assert Evaluation(rows, [], {}, (0.0, 1.0), tmp_path).scalars() == {
        "a/image_auroc": 0.5,
        "b/image_auroc": 0.75,
        "b/pixel_auroc": 0.9,
        "mean/image_auroc": 0.625,
        "mean/pixel_auroc": 0.9,
    }


def test_the_table_has_a_line_per_category_and_nothing_where_a_metric_is_undefined(tmp_path):
    rows = [row("a", "bottle", "image", 0.5), row("a", "bottle", "pixel", None), row("a", "can", "image", 1.0)]
    columns, lines = Evaluation(rows, [], {}, (0.0, 1.0), tmp_path).table()
    assert columns == ["target", "category", "n_normal", "n_anomalous", "image_auroc", "pixel_auroc"]
    assert lines == [["a", "bottle", 2, 3, 0.5, None], ["a", "can", 2, 3, 1.0, None]]


def test_pictures_are_those_that_were_drawn_of_its_targets(evaluation):
    drawn = evaluation.drawn
    assert evaluation.pictures() == {
        "tiles": {"contact_sheet": drawn / "tiles.png", "heatmaps/square_000": drawn / "tiles" / "square_000.png"}
    }
    (drawn / "tiles.png").unlink()
    assert set(evaluation.pictures()["tiles"]) == {"heatmaps/square_000"}
