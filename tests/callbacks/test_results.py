"""What a plain Trainer leaves with our callbacks: numbers, pictures, and what loggers are shown."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.loggers import CSVLogger, Logger

from cops_lightning import CopsDataModule, CopsModule, Folder
from cops_lightning.callbacks.diagnostics import Diagnostics
from cops_lightning.callbacks.evaluation import LogEvaluation
from cops_lightning.callbacks.heat_maps import HeatMaps, _file_names
from cops_lightning.callbacks.results import SCORE_COLUMNS, Results
from cops_lightning.core.errors import ConfigError
from cops_lightning.data.readers.resolve import load_index
from cops_lightning.metrics.suite import MetricSuite
from cops_lightning.report.tables import read_results
from tiny import quiet_trainer, write_dataset

# What Lightning itself says about worker processes, and torch's own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec:FutureWarning")


@pytest.fixture
def module(tiny_backbone) -> CopsModule:
    return CopsModule("cops", tiny_backbone)


class Shown(Logger):
    """A logger that keeps what it is shown."""

    shows_curves = True

    def __init__(self) -> None:
        super().__init__()
        self.evaluations = []

    @property
    def name(self):
        return "shown"

    @property
    def version(self):
        return 0

    def log_metrics(self, metrics, step=None):
        """Nothing."""

    def log_hyperparams(self, params, *args, **kwargs):
        """Nothing."""

    def log_evaluation(self, evaluation):
        self.evaluations.append(evaluation)


def test_results_hold_every_metric_and_scores_every_image(module, parts, tiles, tmp_path):
    data = CopsDataModule(None, [Folder(parts), Folder(tiles)])
    tested = quiet_trainer(tmp_path, callbacks=[Results()]).test(module, datamodule=data, verbose=False)
    rows = read_results(tmp_path / "results.csv")
    named = {
        f"{m.target}/{'' if m.category == 'mean' else f'{m.category}/'}{m.level}_{m.metric}": m.value
        for m in (row.measured for row in rows)
    }
    assert named == {name: value for of in tested for name, value in of.items()}
    with (tmp_path / "scores.csv").open() as file:
        scores = list(csv.DictReader(file))
    assert tuple(scores[0]) == SCORE_COLUMNS
    assert [row["target"] for row in scores] == ["parts"] * 16 + ["tiles"] * 16
    assert [float(row["score"]) for row in scores] == [i.score for of in module.scored for i in of]
    assert {(row["category"], row["defect"], row["label"]) for row in scores if row["target"] == "tiles"} == {
        (category, *kind) for category in ("blue", "red") for kind in (("good", "0"), ("hole", "1"))
    }


def test_results_go_to_a_folder_of_ones_own_and_hold_loaders_alone_too(module, tiles, tmp_path):
    loaders = Folder(tiles, image_size=48).test_dataloader()
    trainer = quiet_trainer(tmp_path, callbacks=[Results(tmp_path / "mine"), HeatMaps(), LogEvaluation()])
    trainer.test(module, dataloaders=loaders, verbose=False)
    assert {row.measured.target for row in read_results(tmp_path / "mine" / "results.csv")} == {"tiles"}
    assert not (tmp_path / "heatmaps").exists(), "nothing says where the images' masks are"


def test_heat_maps_are_a_third_of_normal_images_beside_a_sheet(module, tiles, tmp_path):
    callbacks = [HeatMaps(count=6, scale_max=0.5)]
    quiet_trainer(tmp_path, callbacks=callbacks).test(module, datamodule=Folder(tiles), verbose=False)
    drawn = sorted(path.name for path in (tmp_path / "heatmaps" / "tiles").glob("*.png"))
    assert len(drawn) == 6
    assert sum("good" in name for name in drawn) == 2
    assert (tmp_path / "heatmaps" / "tiles.png").is_file()


def test_heat_maps_lie_in_the_run_whatever_a_dataset_calls_itself(module, tiles, tmp_path):
    data = Folder(load_index(tiles).renamed("../../../outside"))
    quiet_trainer(tmp_path / "a/b/run", callbacks=[HeatMaps(count=3)]).test(module, datamodule=data, verbose=False)
    drawn = list(tmp_path.rglob("*.png"))
    assert len(drawn) == 4
    assert all(path.is_relative_to(tmp_path / "a/b/run/heatmaps") for path in drawn)


def test_no_heat_map_is_drawn_where_none_is_wanted(module, tiles, tmp_path):
    quiet_trainer(tmp_path, callbacks=[HeatMaps(count=0)]).test(module, datamodule=Folder(tiles), verbose=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"scale_min": 1.0}, "a scale that goes up"),
        ({"scale_max": 0.0}, "a scale that goes up"),
        ({"scale_max": float("nan")}, "a scale that goes up"),
        ({"count": -1}, "0 for none"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_anything_is_done(settings, said):
    with pytest.raises(ConfigError, match=f"expected .*{said}"):
        HeatMaps(**settings)


@pytest.mark.parametrize(
    "fails", ["heat_maps.save_heat_map", "heat_maps.read_image", "diagnostics.observe", "curves", "logger"]
)
def test_a_decoration_that_fails_costs_no_number_and_is_said(
    fails, module, parts, tiles, tmp_path, monkeypatch, capsys
):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "heatmaps/a.png")

    shown = Shown()
    if fails == "curves":
        monkeypatch.setattr(MetricSuite, "curves", fail)
    elif fails == "logger":
        shown.log_evaluation = fail
    else:
        monkeypatch.setattr(f"cops_lightning.callbacks.{fails}", fail)
    callbacks = [HeatMaps(count=3), Diagnostics(images=4), LogEvaluation(), Results()]
    trainer = quiet_trainer(tmp_path, callbacks=callbacks, logger=shown)
    trainer.test(module, datamodule=CopsDataModule(Folder(parts), [Folder(tiles)]), verbose=False)
    said = capsys.readouterr().err
    assert said.count("warning: ") == 1
    assert "could not be made (heatmaps/a.png: No space left on device). The numbers are not affected." in said
    assert [row.measured for row in read_results(tmp_path / "results.csv")] == module.rows
    assert [evaluation.rows for evaluation in shown.evaluations] == [module.rows] * (fails != "logger")


NAMES = ("b\udce9", "[x]", "\u00e9" * 100, "[bold]", "CON")


def test_whatever_categories_and_images_are_called_all_is_written_and_drawn(module, tmp_path):
    data = Folder(write_dataset(tmp_path / "[data]", NAMES, seed=0, images=1), image_size=48)
    shown, callbacks = Shown(), [Results(), HeatMaps(count=100), LogEvaluation()]
    trainer = quiet_trainer(tmp_path, callbacks=callbacks, logger=[CSVLogger(tmp_path), shown])
    trainer.test(module, datamodule=data, verbose=False)
    categories = {row.measured.category for row in read_results(tmp_path / "results.csv")}
    assert categories == {name.encode(errors="backslashreplace").decode() for name in NAMES} | {"mean"}
    pictures = shown.evaluations[0].pictures()["[data]"]
    assert len(pictures) == 2 * len(NAMES) + 1
    assert all(path.is_file() for path in pictures.values())
    with (tmp_path / "scores.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 2 * len(NAMES)


@given(st.lists(st.text(st.characters(codec=None), max_size=300), min_size=1, unique=True))
def test_no_two_heat_maps_have_one_file(keys):
    names = _file_names([f"set/part/{key}" for key in keys])
    assert len({name.casefold() for name in names}) == len(keys)
    assert not any("/" in name or len(name.encode()) > 120 for name in names)


def test_loggers_that_show_more_than_numbers_get_curves_and_pictures(module, tiles, tmp_path):
    shown = Shown()
    callbacks = [HeatMaps(count=3), LogEvaluation()]
    trainer = quiet_trainer(tmp_path, callbacks=callbacks, logger=[CSVLogger(tmp_path), shown])
    (tested,) = trainer.test(module, datamodule=Folder(tiles), verbose=False)
    (evaluation,) = shown.evaluations
    assert evaluation.scalars()["tiles/image_auroc"] == tested["tiles/image_auroc"]
    assert {(curve.category, curve.level) for curve in evaluation.curves} == {
        (category, level) for category in ("blue", "red") for level in ("image", "pixel")
    }
    assert [len(examples) for examples in evaluation.examples.values()] == [3]
    assert set(evaluation.pictures()) == {"tiles"}


def test_methods_of_a_notebook_are_told_apart_and_seeds_are_not(tiny_backbone, tiles, tmp_path):
    def tested(name: str, *arguments, **options):
        trainer = quiet_trainer(tmp_path, callbacks=[Results(tmp_path / name)], limit_test_batches=1)
        trainer.test(CopsModule(*arguments, **options), datamodule=Folder(tiles), verbose=False)
        return read_results(tmp_path / name / "results.csv")[0].run

    zero, one = (tested(f"seed{seed}", "cops", tiny_backbone, seed=seed) for seed in (0, 1))
    other = tested("other", "cops", tiny_backbone, preset="mvtec")
    assert zero.method == one.method != other.method
    assert len({zero.run_id, one.run_id, other.run_id}) == 3
    assert (zero.seed, one.seed, zero.variant, zero.auxiliary) == (0, 1, "CoPS", "none")
