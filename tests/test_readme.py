"""What the pages say one can type: the Python block of the README runs as written, every command exists."""

import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from composing import composed
from cops_lightning.config.check import check
from cops_lightning.config.options import resolved
from cops_lightning.config.settings import EvalSettings, TrainSettings
from cops_lightning.core.files import conf_folder
from cops_lightning.demo.writer import DATASETS, VERSION, write_mvtec

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/own/README.md")),
    *sorted((ROOT / "experiments").rglob("README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
SCHEMAS = {"train": TrainSettings, "eval": EvalSettings}
OWN = ROOT / "examples" / "own"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
def test_the_ten_lines_of_python_run_as_written(tmp_path, monkeypatch, capsys):
    for name in ("procedural_auxiliary", "procedural_easy"):  # fewer images of each than the real ones have
        folder = tmp_path / "cache" / f"procedural-{VERSION}" / name
        write_mvtec(folder, DATASETS[name][:2], train=0, normal=2, anomalous=4, progress=False)
    monkeypatch.setenv("COPS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict = {}
    exec(compile(block, "README.md", "exec"), names)
    assert 0 <= names["metrics"][0]["procedural_easy/image_auroc"] <= 1
    assert len(names["photos"]) == 12
    predicted = [found for batch in names["batches"] for found in batch]
    assert [found.path for found in predicted] == names["photos"]
    found = next(names["cl"].load("cops.ckpt").predict(names["photos"][:1]))
    assert found.score == pytest.approx(predicted[0].score, abs=1e-6)
    assert str(names["photos"][0]) in capsys.readouterr().out


def commands() -> Iterator[tuple[str, str]]:
    """Page and command, for every line of an indented block and every span of code that begins with `cops-`."""
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        found = re.findall(r"^    (cops-\S+ ?.*)$", text, re.MULTILINE)  # "$ cops-..." shows an error
        found += [" ".join(span.split()) for span in re.findall(r"`(cops-\w+ [^`]*)`", text)]
        for line in found:
            command = re.sub(r"(^|\s)#.*", "", line)
            if not re.search(r"\.\.\.| -sc |--help", command) and command.strip() != "":
                yield str(page.relative_to(ROOT)), command.strip()


ALL = sorted(set(commands()))


@pytest.mark.parametrize(("page", "command"), ALL, ids=lambda value: re.sub(r"\s+", " ", value))
def test_every_command_in_the_pages_is_one_that_exists(page, command, monkeypatch):
    program, *arguments = shlex.split(command)
    name = program.removeprefix("cops-")
    if name not in SCHEMAS:
        module = import_module(f"cops_lightning.cli.{name}")
        module._parser().parse_args(arguments)
        return
    overrides = []
    if "--config-dir" in arguments:
        at = arguments.index("--config-dir")
        assert arguments[at + 1] == "mine"
        del arguments[at : at + 2]
        overrides.append(f"hydra.searchpath=[file://{OWN}]")
        monkeypatch.syspath_prepend(OWN)
    if "-m" in arguments:
        arguments.remove("-m")
        overrides += [f"{key}={values.split(',')[0].strip()}" for key, values in swept(arguments)]
    for jobs in jobs_of(arguments):
        check(settings(name, [*overrides, *jobs]), SCHEMAS[name])


def swept(arguments: list[str]) -> Iterator[tuple[str, str]]:
    """What an experiment sweeps over where the command line does not say."""
    given = dict(argument.split("=", 1) for argument in arguments)
    if "experiment" in given:
        experiment = yaml.safe_load((conf_folder() / "experiment" / f"{given['experiment']}.yaml").read_text())
        params = experiment.get("hydra", {}).get("sweeper", {}).get("params", {})
        yield from ((key, str(values)) for key, values in params.items() if key not in given)


def jobs_of(arguments: list[str]) -> Iterator[list[str]]:
    """The overrides of a single run for each value of a sweep; the other sweeps have their first value."""
    parsed = OverridesParser.create().parse_overrides(arguments)
    values = [
        [f"{o.key_or_group}={v}" for v in o.sweep_string_iterator()]
        if o.is_choice_sweep()
        else [f"{o.key_or_group}=0.001"]
        if o.is_sweep_override()
        else [argument]
        for o, argument in zip(parsed, arguments, strict=True)
    ]
    first = [chosen[0] for chosen in values]
    yield first
    for place, chosen in enumerate(values):
        for value in chosen[1:]:
            yield [*first[:place], value, *first[place + 1 :]]


def settings(name: str, overrides: list[str]) -> dict:
    seed = ["seed=0"] if name == "eval" else []  # which the checkpoint says
    return resolved(composed(*seed, *overrides, name=name))


def test_every_target_of_make_that_a_page_names_exists():
    makefile = (ROOT / "Makefile").read_text()
    named = {
        target for page in PAGES for target in re.findall(r"(?:^    |`)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert {"demo", "studies", "check"} <= named
    missing = {target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)}
    assert not missing
