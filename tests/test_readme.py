"""What the pages say one can type: Python runs as written, specs are read, every command exists."""

import ast
import functools
import inspect
import re
import shlex
import shutil
import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

import cops_lightning as cl
from composing import composed
from cops_lightning.cli.words import WordsCommand
from cops_lightning.config.check import check
from cops_lightning.config.options import resolved
from cops_lightning.config.settings import EvalSettings, TrainSettings
from cops_lightning.core.files import conf_folder
from cops_lightning.data.readers.spec_file import read_spec_file
from tiny import quiet_trainer, write_dataset

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "RELEASING.md", "examples/own/README.md")),
    ROOT / "src/cops_lightning/demo/mini/README.md",
    *sorted((ROOT / "experiments").rglob("README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
SCHEMAS = {"train": TrainSettings, "eval": EvalSettings}
OWN = ROOT / "examples" / "own"
# Pages whose Python has a test of its own; those of the last two are in tests/export and tests/demo.
ALONE = {
    *("README.md", "docs/tutorials/python.md", "docs/tutorials/sweep.md"),
    *("docs/export.md", "src/cops_lightning/demo/mini/README.md"),
}
# What a line of an indented block may begin with: commands, which are tested below, and what a shell and W&B do.
LINES = (
    r"cops-|make |python scripts/|pip install |export |eval |autoload |cp -r |wandb |\$ cops-|error: |'?targets=|"
    r"callbacks\."
)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def needs_released_files(code: str) -> bool:
    return re.search(r"\.pth?\"", code) is not None


@pytest.fixture
def run_python(few_images, tmp_path, monkeypatch) -> Callable[[Path], dict]:
    """The names that are defined after all blocks of a page have run, in a folder of their own."""
    monkeypatch.setenv("COPS_CACHE", str(few_images))
    monkeypatch.chdir(tmp_path)

    def run(page: Path) -> dict:
        names: dict = {"__name__": "__main__"}
        for block in blocks(page, "python"):
            exec(compile(block, str(page), "exec"), names)
        return names

    return run


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
def test_the_ten_lines_of_python_run_as_written(run_python, capsys):
    names = run_python(ROOT / "README.md")
    assert 0 <= names["metrics"][0]["procedural_easy/image_auroc"] <= 1
    assert len(names["photos"]) == 12
    predicted = [found for batch in names["batches"] for found in batch]
    assert [found.path for found in predicted] == names["photos"]
    found = next(names["cl"].load("cops.ckpt").predict(names["photos"][:1]))
    assert found.score == pytest.approx(predicted[0].score, abs=1e-6)
    assert str(names["photos"][0]) in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
def test_the_python_of_the_first_tutorial_runs_as_written(run_python, tmp_path, capsys):
    names = run_python(ROOT / "docs" / "tutorials" / "python.md")
    assert 0 <= names["metrics"]["procedural_easy/image_auroc"] <= 1
    assert names["scores"].image.shape == (1,)
    assert len(list(tmp_path.glob("*.png"))) == 3
    assert "numbers train" in capsys.readouterr().out


def test_the_comparison_of_the_tutorial_on_sweeps_finds_what_was_put_into_its_table(run_python, capsys):
    found = run_python(ROOT / "docs" / "tutorials" / "sweep.md")["found"]
    # Each of its values of "ours" is three points above that of "theirs".
    assert found.verdict == "better"
    assert found.difference == pytest.approx(3)


OTHERS = [page for page in PAGES if any(map(needs_released_files, blocks(page, "python")))]


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.name)
def test_calls_that_need_released_files_have_arguments_that_the_library_takes(page):
    known: dict[str, type] = {}
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Assign) and (
                owner := re.match(r"cl\.(\w+)\.from_released", ast.unparse(node.value))
            ):
                known[ast.unparse(node.targets[0])] = getattr(cl, owner[1])
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Call):
                first, *parts = ast.unparse(node.func).split(".")
                found = functools.reduce(getattr, parts, known.get(first, cl))
                given = [object()] * (len(node.args) + (first in known)), {word.arg: object() for word in node.keywords}
                inspect.signature(found).bind(*given[0], **given[1])


WITH_A_CHECKPOINT = [
    page for page in PAGES if blocks(page, "python") and page not in OTHERS and str(page.relative_to(ROOT)) not in ALONE
]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("page", WITH_A_CHECKPOINT, ids=lambda page: page.name)
def test_python_that_begins_with_a_checkpoint_and_photographs_runs_as_written(
    page, run_python, tmp_path, tiny_backbone
):
    write_dataset(tmp_path / "parts", ("bolt",), seed=0, images=24)
    trainer = quiet_trainer(tmp_path)
    trainer.fit(cl.CopsModule("cops", tiny_backbone), datamodule=cl.Folder(tmp_path / "parts", limit=2))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    shutil.copytree(tmp_path / "parts" / "bolt" / "test" / "good", tmp_path / "photos" / "good")
    shutil.copytree(tmp_path / "parts" / "bolt" / "test" / "hole", tmp_path / "photos" / "new")
    run_python(page)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "yaml")], ids=lambda page: page.name)
def test_every_spec_of_a_dataset_in_the_pages_is_read(page, tmp_path):
    for block in blocks(page, "yaml"):
        file = tmp_path / "spec.yaml"
        file.write_text(block)
        spec, _ = read_spec_file(file)
        assert spec.name == yaml.safe_load(block)["name"]


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


ALL = {command: page for page, command in commands()}  # several pages may say the same


@pytest.mark.parametrize("command", ALL, ids=lambda command: re.sub(r"\s+", " ", f"{ALL[command]}-{command}"))
def test_every_command_in_the_pages_is_one_that_exists(command, monkeypatch):
    program, *arguments = shlex.split(command)
    name = program.removeprefix("cops-")
    if name not in SCHEMAS:
        module = import_module(f"cops_lightning.cli.{name}")
        by_words = [of for of in vars(module).values() if isinstance(of, WordsCommand)]
        by_words[0].read(arguments) if by_words else module._parser().parse_args(arguments)
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
        [f"{o.key_or_group}={v}" for v in o.sweep_string_iterator()][: 1 if o.key_or_group == "seed" else None]
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
    said = ["seed=0"] if name == "eval" else []  # by the checkpoint, as its model is where something below it is set
    if name == "eval" and any(override.startswith("model.") for override in overrides):
        said += ["model=cops", "preset=visa"]
    return resolved(composed(*said, *overrides, name=name))


def test_every_block_of_code_is_of_a_kind_that_is_tested():
    kinds = {"python", "yaml", "text"}  # text: what is printed
    for page in PAGES:
        text = page.read_text()
        assert set(re.findall(r"^```(\w*)\n.*?^```", text, re.MULTILINE | re.DOTALL)) <= kinds, page
        indented = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        for block in re.findall(r"(?:\A|\n\n)((?:    .*\n)+)", indented):
            for line in filter(None, (re.sub(r"(^|\s)#.*", "", line).strip() for line in block.splitlines())):
                assert re.match(LINES, line), f"{page}: {line}"


def test_every_extra_that_a_page_names_exists():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {
        name
        for page in PAGES
        for found in re.findall(r"pip install '(?:\.|cops_lightning)\[(.+?)\]'|pip extras? `?(\w+)", page.read_text())
        for name in re.split(r", *", "".join(found))
    }
    assert {"app", "tensorboard", "mlflow", "slurm"} <= named
    assert named <= set(extras)
    listed = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \|", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"\w+", " ".join(listed))) == set(extras) - {"test", "dev", "docs"}


def test_every_target_of_make_that_a_page_names_exists():
    makefile = (ROOT / "Makefile").read_text()
    named = {
        target for page in PAGES for target in re.findall(r"(?:^    |`)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }
    assert {"demo", "studies", "check"} <= named
    missing = {target for target in named if not re.search(rf"^{target}:", makefile, re.MULTILINE)}
    assert not missing
