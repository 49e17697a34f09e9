"""What lies around the code for those who take part: hooks, workflow, citation, changelog."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_workflow_runs_what_ci_runs_on_the_oldest_python_that_is_supported():
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    steps = job["steps"]
    assert [step["run"] for step in steps if "run" in step] == [".ci/run"]
    versions = {step["with"]["python-version"] for step in steps if "python-version" in step.get("with", {})}
    assert versions == {PROJECT["requires-python"].removeprefix(">=")}
    python = "Programming Language :: Python :: "
    declared = {entry.removeprefix(python) for entry in PROJECT["classifiers"] if entry.startswith(python)}
    assert declared == versions


def test_hooks_are_local_and_call_what_the_linting_of_ci_calls():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    linted = re.findall(r"^\t\$\(BIN\)/(.+?)(?: \.)?$", re.search(r"^lint:.*?\n\n", MAKEFILE, re.M | re.S)[0], re.M)
    called = {hook["entry"].removeprefix(".venv/bin/") for hook in repository["hooks"]}
    assert called == {command.replace(" --check", "") for command in linted}


MAKEFILE = (ROOT / "Makefile").read_text()


def test_the_citation_is_of_this_version_and_licence():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["title"], citation["version"]) == (PROJECT["name"], PROJECT["version"])
    assert citation["license"] == PROJECT["license"]
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2508.03447"


def test_the_changelog_has_its_sections_in_the_usual_form():
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", version) for version in versions[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= kinds


def test_albumentations_whose_successor_has_another_licence_is_held_and_behind_one_module():
    (held,) = [entry for entry in PROJECT["dependencies"] if entry.startswith("albumentations")]
    assert held == "albumentations>=2.0,<2.1"
    imports = re.compile(r"^\s*(import|from) albumentations", re.MULTILINE)
    found = [path.name for path in (ROOT / "src").rglob("*.py") if imports.search(path.read_text())]
    assert found == ["augmentation.py"]
