"""The experiments: each has its question written down, and each job of its sweep is a run of its own."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from composing import composed
from cops_lightning.config.check import check
from cops_lightning.config.options import resolved
from cops_lightning.config.settings import TrainSettings
from cops_lightning.core.files import conf_folder
from cops_lightning.core.hashes import settings_hash
from cops_lightning.runs.identity import method_settings, run_id
from cops_lightning.runs.sweeps import count_jobs

EXPERIMENTS = sorted(path.stem for path in (conf_folder() / "experiment").glob("*.yaml"))
QUESTIONS = Path(__file__).parents[2] / "experiments"


def swept(name: str) -> dict[str, str]:
    """What an experiment sweeps over, if it is a sweep."""
    return dict(composed(f"experiment={name}", hydra=True).hydra.sweeper.params or {})


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_says_its_question_its_command_and_what_was_found(name):
    text = (QUESTIONS / name / "README.md").read_text()
    assert text.splitlines()[0].endswith("?")
    assert f"experiment={name}" in text or "make demo" in text
    assert "**Found" in text


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_job_of_an_experiment_composes_and_is_another_run(name):
    parsed = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in swept(name).items()])
    choices = {o.get_key_element(): list(o.sweep_string_iterator()) for o in parsed}
    jobs = 1
    for values in choices.values():
        jobs *= len(values)
    assert count_jobs(composed(f"experiment={name}", hydra=True)) == jobs
    # Every value once, the others at their first.
    first = {key: values[0] for key, values in choices.items()}
    asked = [first, *({**first, key: value} for key, values in choices.items() for value in values[1:])]
    runs = set()
    for chosen in asked:
        overrides = [f"{key}={value}" for key, value in chosen.items()]
        config = composed(f"experiment={name}", *overrides)
        check(resolved(config), TrainSettings)
        assert config.study == name
        runs.add(run_id(settings_hash(method_settings(config)), resolved(config)))
    assert len(runs) == len(asked)
