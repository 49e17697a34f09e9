"""What the command line and the files of a configuration may say: errors before any data is touched, and effects."""

import csv
import json

import pytest

from cops_lightning.report.tables import read_results

from .conftest import SMALL, make_dataset, only_error, training


@pytest.fixture
def refused(tmp_path, run_command):
    """The sentence with which `cops-train` refuses arguments, having read, rendered and cached nothing."""

    def sentence(*arguments: str) -> str:
        untouched = tmp_path / "untouched"
        untouched.mkdir(exist_ok=True)
        places = (f"paths.data={untouched}", f"paths.cache={untouched}")
        said = only_error(run_command("cops-train", *arguments, *SMALL, *places, cwd=tmp_path))
        assert not list(untouched.rglob("*"))
        assert not (tmp_path / "runs").exists()
        return said

    return sentence


@pytest.mark.parametrize(
    ("argument", "key", "near"),
    [
        ("trainer.max_step=3", "trainer.max_step", "trainer.max_steps"),
        ("+trainer.max_step=3", "trainer.max_step", "trainer.max_steps"),
        ("data.batch_siez=4", "data.batch_siez", "data.batch_size"),
        ("readings.recon=matched", "readings.recon", "model.readings.recon"),
        ("model.readings.recon=matchd", "model.readings.recon", "matched"),
        ("model.components.image_score=both", "model.components.image_score", "'mixed', 'global' or 'local'"),
        ("model.sizes.prototype=3", "model.sizes.prototype", "model.sizes.prototypes"),
        ("optimizer.lrr=0.1", "optimizer.lrr", "optimizer.lr"),
        ("+scheduler.gamma=0.1", "scheduler", "_target_"),
        ("callbacks.heat_maps.cuont=3", "callbacks.heat_maps.cuont", "callbacks.heat_maps.count"),
        ("logger.csv.save_dri=x", "logger.csv.save_dri", "logger.csv.save_dir"),
        ("seeed=1", "seeed", "seed"),
        ("+seeed=1", "seeed", "seed"),
        ("seed=-1", "seed", "greater than or equal to 0"),
        ("data.batch_size=many", "data.batch_size", "a valid integer"),
        ("ablatoin=none", "ablatoin", "ablation"),
        ("ablation=without_stats", "ablation has no option without_stats", "Did you mean 'without_states'?"),
        ("model=xyz", "model has no option xyz", "It has adaclip, "),
        ("debug=null", "debug=null is no option of debug", "fast, overfit, profile"),
        ("model._target_=cops_lightning.models.cops.model.Cops", "model._target_", "'Cops' is importable"),
        ("trainer.callbacks=[]", "trainer.callbacks", "callbacks"),
        ("metrics.pixels.mine=x", "metrics.pixels", "metrics.pixel"),
        ("metrics.pixel.mine=x", "metrics.pixel.mine", "_target_"),
        ("optimizer.lr=-1", "optimizer", "Invalid learning rate"),
        ("targets=[data/a=b]", "targets=[data/a=b] is no KEY=VALUE", "quotes of its own"),
        ("targets=[data/~x]", "targets=[data/~x] is no KEY=VALUE", "quotes of its own"),
    ],
)
def test_a_key_or_value_that_is_not_known_is_one_sentence_with_the_nearest(argument, key, near, refused):
    said = refused(argument)
    assert key in said
    assert near in said


@pytest.mark.parametrize(
    ("content", "key", "near"),
    [
        ("data:\n  batch_siez: 4\n", "data.batch_siez", "data.batch_size"),
        ("seeed: 4\n", "seeed", "seed"),
        ("trainer:\n  max_step: 4\n", "trainer.max_step", "trainer.max_steps"),
        (
            "callbacks:\n  mine:\n    _target_: lightning.pytorch.callbacks.Timer\n    duratoin: 1\n",
            "duratoin",
            "duration",
        ),
    ],
)
def test_so_is_one_in_an_experiments_file(content, key, near, tmp_path, refused):
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    (tmp_path / "mine" / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{content}")
    said = refused("--config-dir", str(tmp_path / "mine"), "experiment=mine")
    assert key in said
    assert near in said


def test_an_experiment_that_is_a_sweep_says_that_it_needs_m(refused):
    assert "Add -m to the command" in refused("experiment=seed_variance")


def rows(path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with an auxiliary dataset `parts` and a target `tiles` of two categories."""
    folder = tmp_path_factory.mktemp("settings")
    make_dataset(folder / "parts", 9, 9)
    make_dataset(folder / "tiles", 2, 2, seed=1)
    make_dataset(folder / "tiles", 2, 2, seed=2, category="other")
    return folder


FEW = ("callbacks.heat_maps.count=0", "callbacks.diagnostics=null", "targets=[tiles]")


def test_arguments_of_the_trainer_and_of_the_data_take_effect(here, run_command):
    def weights_moved(name: str, *more: str) -> list[str]:
        asked = (*FEW, "data.batch_size=4", "trainer.max_steps=2", "logger=[csv,tensorboard]", f"hydra.run.dir={name}")
        result = run_command("cops-train", *training(here, *asked, *more), cwd=here)
        assert result.returncode == 0, result.stderr
        found = rows(here / name / "metrics.csv")
        assert sorted({row["step"] for row in found if row["train/total_step"]}) == ["0", "1"]
        return [row["train/total_step"] for row in found if row["train/total_step"]]

    plain = weights_moved("steps", "data.categories=[other]")
    assert {row.measured.category for row in read_results(here / "steps" / "results.csv")} == {"other", "mean"}
    assert list((here / "steps").rglob("events.out.tfevents.*"))
    clipped = weights_moved("clipped", "trainer.gradient_clip_val=1e-9", "optimizer.eps=1.0")
    unclipped = weights_moved("unclipped", "optimizer.eps=1.0")
    # The first loss is before any step; with eps=1 a step of Adam is as long as the gradient.
    assert plain[0] == clipped[0] == unclipped[0]
    assert plain[1] != unclipped[1] != clipped[1]
    configs = [json.loads((here / name / "run.json").read_text()) for name in ("steps", "clipped", "unclipped")]
    assert len({config["method"] for config in configs}) == 3


@pytest.mark.parametrize("name", ["fast", "overfit", "profile"])
def test_debugging_runs(name, here, run_command):
    more = () if name == "fast" else ("trainer.max_epochs=1",)
    asked = (f"debug={name}", "targets=[tiles]", "callbacks.heat_maps.count=0", f"hydra.run.dir={name}", *more)
    result = run_command("cops-train", *training(here, *asked), cwd=here)
    assert result.returncode == 0, result.stderr
    assert {row.run.study for row in read_results(here / name / "results.csv")} == {"debug"}
    if name == "profile":
        assert list((here / name).glob("*profile*"))
