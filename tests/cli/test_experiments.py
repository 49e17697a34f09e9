"""The experiments: each has its question written down, and each job of its sweep is a run of its own."""

import itertools
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from cops_lightning.config.options import register
from cops_lightning.core.files import conf_folder
from cops_lightning.runs.identity import run_id
from cops_lightning.runs.sweeps import count_jobs

EXPERIMENTS = sorted(path.stem for path in (conf_folder() / "experiment").glob("*.yaml"))
QUESTIONS = Path(__file__).parents[2] / "experiments"


def configured(*overrides: str) -> dict:
    """What `cops-train` runs with for these arguments."""
    return OmegaConf.to_container(compose("train", list(overrides)), resolve=True, enum_to_str=True)


def swept(name: str) -> dict[str, str]:
    """What an experiment sweeps over, if it is a sweep."""
    return dict(compose("train", [f"experiment={name}"], return_hydra_config=True).hydra.sweeper.params or {})


@pytest.fixture(autouse=True)
def _hydra():
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        yield


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_says_its_question_its_command_and_what_was_found(name):
    text = (QUESTIONS / name / "README.md").read_text()
    assert text.splitlines()[0].endswith("?")
    assert f"experiment={name}" in text or "make demo" in text
    assert "**Found" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_job_of_an_experiment_composes_and_is_another_run(name):
    parsed = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in swept(name).items()])
    choices = [[f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()] for o in parsed]
    jobs = [configured(f"experiment={name}", *chosen) for chosen in itertools.product(*choices)]
    assert count_jobs(compose("train", [f"experiment={name}"], return_hydra_config=True)) == len(jobs)
    assert len({run_id(job) for job in jobs}) == len(jobs)
    assert {job["study"] for job in jobs} == {name}
