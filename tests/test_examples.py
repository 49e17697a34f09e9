"""examples/own: components that do not come with the library, run by the commands as a user would run them."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.conftest import make_dataset
from commands import Result

OWN = Path(__file__).parents[1] / "examples" / "own"
SMALL = (
    *("backbone=tiny_random", "backbone.image_size=64", "trainer.accelerator=cpu", "data.num_workers=0"),
    *("callbacks.progress=null", "paths.cache=cache", "hydra.run.dir=run"),
)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with two datasets and a copy of the examples."""
    make_dataset(tmp_path / "parts")
    make_dataset(tmp_path / "tiles", seed=1)
    shutil.copytree(OWN, tmp_path / "own", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.fixture
def train(here: Path, run_process) -> Callable[..., Result]:
    def run(*arguments: str) -> Result:
        command = ("cops-train", "--config-dir", "own", *SMALL, *arguments)
        return run_process(*command, cwd=here, MY_PARTS=str(here / "parts"))

    return run


def lines(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


def values(found: list[dict], name: str) -> list[float]:
    return [float(line[name]) for line in found if line.get(name) not in (None, "")]


def curves(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "curves.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_detector_a_metric_a_logger_and_a_dataset_of_ones_own_take_the_place_of_ours(train, here):
    done = train("model=mine", "metrics=mine", "logger=mine", "callbacks=mine", "targets=[mine]")
    assert done.returncode == 0, done.stderr
    results = {(r["category"], r["level"], r["metric"]): r for r in lines(here / "run" / "results.csv")}
    auroc, margin = results["mean", "image", "auroc"], results["mean", "image", "margin"]
    assert (auroc["variant"], auroc["target"]) == ("mine", "parts")
    # A bright square on grey noise is unlike the rest of its image, even to random weights.
    assert float(auroc["value"]) == 1.0
    assert 0 < float(margin["value"]) < 1
    assert values(curves(here / "run"), "parts/image_margin") == [float(margin["value"])]
    assert not (here / "run" / "metrics.csv").exists()
    assert not (here / "run" / "heatmaps").exists()


@pytest.mark.slow
def test_what_one_adds_to_ours_goes_side_by_side_with_it(train, here):
    done = train(
        *(
            "auxiliary=own",
            "auxiliary.source=parts",
            "targets=[tiles]",
            "preset.epochs=2",
            "callbacks.heat_maps.count=1",
        ),
        *("data=mine", "callbacks=[default,mine]", "logger=[csv,mine]", "optimizer=mine", "scheduler=mine"),
    )
    assert done.returncode == 0, done.stderr
    # The dataset has three normal and three anomalous images; data=mine keeps two of each.
    assert "auxiliary parts: 4 images" in done.stdout
    found = lines(here / "run" / "metrics.csv")
    # The optimiser's own rate, halved by the scheduler after the first epoch.
    assert values(found, "rates/learning_rate") == pytest.approx([0.002, 0.001])
    norms = values(found, "weights/norm")
    assert len(norms) == 2
    assert values(curves(here / "run"), "weights/norm") == pytest.approx(norms)
    assert (here / "run" / "heatmaps").is_dir()


@pytest.mark.slow
def test_an_experiment_names_a_choice_of_ones_own_parts(train, here):
    done = train("experiment=mine", "targets=[tiles]", "preset.epochs=1", "callbacks.heat_maps.count=1")
    assert done.returncode == 0, done.stderr
    results = lines(here / "run" / "results.csv")
    assert {(r["study"], r["auxiliary"], r["target"]) for r in results} == {("mine", "parts", "tiles")}
    assert "margin" in {r["metric"] for r in results}
    config = json.loads((here / "run" / "run.json").read_text())["config"]
    assert (config["preset"]["epochs"], config["preset"]["pool"]) == (1, 5)  # the command's, and VisA's
    assert {"weight_norm", "heat_maps"} <= config["callbacks"].keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chosen", "misspelt", "meant"),
    [
        ("model=mine", "model.wrost=3", "model.worst"),
        ("data=mine", "data.batch_siez=4", "data.batch_size"),  # which the class passes on to its base
    ],
)
def test_a_misspelt_argument_of_ones_own_class_is_an_error_before_any_data_is_read(
    train, here, chosen, misspelt, meant
):
    done = train("auxiliary=own", "auxiliary.source=nowhere", "targets=[nowhere]", chosen, misspelt)
    assert done.returncode == 1
    assert f"Did you mean '{meant}'?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (here / "run" / "run.json").exists()
