"""examples/: components that do not come with the library, run as a user would run them, and scripts."""

import csv
import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cli.conftest import make_dataset
from cli.studies import write_study
from commands import Result

EXAMPLES = Path(__file__).parents[1] / "examples"
OWN = EXAMPLES / "own"
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


def main_of(script: str) -> Callable:
    return runpy.run_path(str(EXAMPLES / f"{script}.py"))["main"]


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda script: script.name)
def test_a_script_is_short_and_says_how_it_is_run(script):
    text = script.read_text()
    assert len(text.splitlines()) < 80
    assert script.name in text.partition("\n\n")[0] + text.partition("\n\n")[2][:200]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_quickstart_trains_and_shows_the_most_anomalous_image(few_images, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COPS_CACHE", str(few_images))
    found = main_of("quickstart")(tmp_path, images=12)
    assert len(found) == 12
    assert found[0].score == max(one.score for one in found)
    with Image.open(tmp_path / "most_anomalous.png") as drawn:
        assert drawn.size == found[0].size
    assert str(found[0].path) in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_method_of_ones_own_finds_places_better_than_chance(few_images, monkeypatch):
    monkeypatch.setenv("COPS_CACHE", str(few_images))
    found = main_of("custom_method")(images=12)
    assert found.keys() == {"rarity", "prompts"}
    assert found["rarity"]["procedural_easy/pixel_auroc"] > 0.5


def test_the_dataset_of_ones_own_is_read_as_its_spec_says(tmp_path, capsys):
    (target,) = main_of("custom_dataset")(tmp_path).targets
    assert target.name == "boards"
    assert sorted((s.category, s.defect, s.label) for s in target.test[::3]) == [
        ("large", "good", 0), ("large", "scratch", 1), ("small", "good", 0), ("small", "scratch", 1),
    ]  # fmt: skip
    assert capsys.readouterr().out.count("3 normal, 3 anomalous") == 2


def test_the_table_of_a_study_has_its_values_and_the_verdict_on_them(tmp_path, capsys):
    write_study(tmp_path, {"cops": 0.05, "static_prompts": 0.0}, seeds=3, targets=("a", "b", "c", "d"))
    table = main_of("study")(str(tmp_path), "cops", "static_prompts")
    assert table.shape == (8, 3)
    gained = table.loc["cops"].mean().mean() - table.loc["static_prompts"].mean().mean()
    assert 3 < gained < 7
    assert "better" in capsys.readouterr().out
