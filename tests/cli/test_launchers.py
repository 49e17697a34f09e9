"""Where the jobs of a sweep run: every launcher and the search for hyper-parameters, on two tiny jobs."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from cops_lightning.report.tables import read_results

from .test_sweeps import arguments, counts, make_both, records

pytestmark = pytest.mark.slow


def needs(package: str, extra: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"needs pip install 'cops_lightning[{extra}]'")


@pytest.mark.parametrize(
    "launcher",
    [
        pytest.param("processes", marks=needs("joblib", "joblib")),
        pytest.param("slurm_local", marks=needs("submitit", "slurm")),
        pytest.param("ray", marks=needs("ray", "ray")),
    ],
)
def test_a_launcher_runs_every_job_and_the_failure_of_one_is_counted(launcher, tmp_path, run_program):
    here = make_both(tmp_path)
    # With workers of its own, as by default: not every process that a launcher makes can start others in the same way.
    asked = ("data.num_workers=1", f"hydra/launcher={launcher}")
    command = arguments(here, f"targets={here / 'tiles'},{here / 'missing'}", *asked)
    result = run_program("cops-train", "-m", *command, cwd=here)
    assert counts(result.stdout) == {"done": 1, "skipped": 0, "failed": 1}, result.stderr
    assert result.returncode == 1
    assert sorted(record["status"] for record in records(here).values()) == ["done", "failed"]


def image_auroc(results: Path) -> float:
    measured = [row.measured for row in read_results(results)]
    return next(m.value for m in measured if (m.category, m.level, m.metric) == ("mean", "image", "auroc"))


@needs("optuna", "optuna")
@pytest.mark.filterwarnings("ignore")  # optuna's, when it is imported
def test_a_search_keeps_the_best_value_and_a_rerun_proposes_the_same_ones(tmp_path, run_command):
    here = make_both(tmp_path)
    searched = ("optimizer.lr=interval(0.0001,0.01)", "hydra.sweeper.n_trials=2", "objective=tiles/image_auroc")
    command = arguments(here, f"targets={here / 'tiles'}", "hydra/sweeper=search", *searched)
    first = run_command("cops-train", "-m", *command, cwd=here)
    assert first.returncode == 0, first.stderr
    best = yaml.safe_load((here / "runs" / "default" / "optimization_results.yaml").read_text())
    assert best["best_value"] == max(map(image_auroc, here.glob("runs/default/*/results.csv")))
    again = run_command("cops-train", "-m", *command, cwd=here)
    assert counts(again.stdout) == {"done": 0, "skipped": 2, "failed": 0}, again.stderr


@pytest.mark.parametrize("option", ["processes", "slurm", "slurm_local", "ray"])
def test_every_launcher_can_be_chosen_by_name(option, run_command):
    result = run_command("cops-train", f"hydra/launcher={option}", "--cfg", "hydra", "-p", "hydra.launcher")
    assert result.returncode == 0, result.stderr
    assert "_target_: hydra_plugins." in result.stdout
