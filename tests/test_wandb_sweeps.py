"""The sweeps that W&B hands out: every job is one that `cops-train` accepts, as W&B's own agent would start it."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from composing import composed
from cops_lightning.config.check import check
from cops_lightning.config.options import resolved
from cops_lightning.config.settings import TrainSettings
from cops_lightning.core.files import conf_folder
from cops_lightning.data.catalog import GROUPS
from cops_lightning.metrics.suite import COLUMNS

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "experiments" / "wandb_sweeps").glob("*.yaml"))


def command_line(sweep: dict, chosen: dict) -> list[str]:
    """What W&B's agent starts for a job with the chosen parameters."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args  # takes seconds

    filled = create_sweep_command_args({"args": {key: {"value": value} for key, value in chosen.items()}})
    filled["program"] = [sweep["program"]]
    words = [str(word) for word in create_sweep_command(sweep["command"])]
    return [part for word in words for part in (filled[word[2:-1]] if word.startswith("${") else [word])]


def settings(sweep: dict, chosen: dict) -> dict[str, Any]:
    words = [word for word in command_line(sweep, chosen)[1:] if not word.startswith("hydra.")]
    return resolved(composed(*words))


def extremes(parameter: dict) -> list:
    """The values of a parameter, or the ends of its range."""
    return parameter["values"] if "values" in parameter else [parameter["min"], parameter["max"]]


def read(file: Path) -> dict:
    return yaml.safe_load(file.read_text())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_value_of_every_parameter_is_a_setting_that_cops_train_takes(file):
    sweep = read(file)
    values = {key: extremes(parameter) for key, parameter in sweep["parameters"].items()}
    for job in range(max(map(len, values.values()))):
        config = settings(sweep, {key: choices[job % len(choices)] for key, choices in values.items()})
        check(config, TrainSettings)
        assert set(config["logger"]) == {"wandb"}
        assert config["study"] == sweep["name"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_program_is_a_console_command_of_this_package(file):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert command_line(read(file), {})[0] in scripts


def test_the_grid_of_ablations_is_that_of_the_hydra_sweep():
    grid = read(ROOT / "experiments" / "wandb_sweeps" / "ablations.yaml")
    hydra = read(conf_folder() / "experiment" / "ablations.yaml")["hydra"]["sweeper"]["params"]
    assert {key: [str(value) for value in parameter["values"]] for key, parameter in grid["parameters"].items()} == {
        key: [value.strip() for value in values.split(",")] for key, values in hydra.items()
    }


def test_the_search_maximises_a_metric_of_its_one_target():
    search = read(ROOT / "experiments" / "wandb_sweeps" / "hyperparameters.yaml")
    target, metric = search["metric"]["name"].split("/")
    assert target in GROUPS["procedural"]
    assert metric in {f"{level}_{name}" for level, name in COLUMNS}
    chosen = {key: extremes(parameter)[0] for key, parameter in search["parameters"].items()}
    assert settings(search, chosen)["targets"] == [target]
