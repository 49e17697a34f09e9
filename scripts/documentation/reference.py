"""Pages of reference, generated from the code: they cannot say other than it does."""

import argparse
import csv
import inspect
import os
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from pydoc import locate
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin
from unittest.mock import patch

import yaml

import cops_lightning as cl
from cops_lightning.cli.words import WordsCommand
from cops_lightning.config.help import Setting, arguments_of, groups, settings_in
from cops_lightning.config.options import options_of
from cops_lightning.core.files import conf_folder
from cops_lightning.data.catalog import BENCHMARK, CATALOG, OWN_LAYOUTS
from cops_lightning.data.readers.spec import Layout, Table

ROOT = Path(__file__).parents[2]
HYDRA = {"cops-train": "train", "cops-eval": "evaluate"}
FIRST = ("CopsModule", "load", "CoPS", "Detector", "Folder", "ImageFolder", "CopsDataModule")  # of the public names
OF_VALUE = {type(None): "str | null", list: "list", dict: "dict"}
LOADED_ELSEWHERE = ("hydra", "experiment", "debug", "ablation")  # choices of settings, of which they have none


def generated() -> dict[str, str]:
    """Pages by their places."""
    return {
        "reference/python.md": python(),
        "reference/settings.md": settings(),
        "reference/commands.md": commands(),
        "reference/results-csv.md": results(),
        "reference/datasets.md": datasets(),
        "reference/published.md": published(),
        "tutorials/scripts.md": scripts(),
    }


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [" | ".join(map(cell, row)) for row in rows]
    return "\n".join([" | ".join(head), " | ".join("---" for _ in head), *lines]) + "\n"


def cell(text: str) -> str:
    """A text within a table, in which a bar that is not part of code would begin another cell."""
    parts = text.replace("\n", " ").split("`")
    return "`".join(part if at % 2 else part.replace("|", "\\|") for at, part in enumerate(parts))


def code(text: object) -> str:
    """Text as code; nothing where there is none."""
    return f"`{text}`" if str(text) else ""


# ---- Python


def python() -> str:
    """Every public name, by mkdocstrings."""
    names = [*FIRST, *(name for name in cl.__all__ if name not in FIRST and name[0] != "_")]
    homes = {name: cl._HOMES.get(name, "cops_lightning.data.datamodules") for name in names}
    sections: dict[str, list[str]] = defaultdict(list)
    for name, home in homes.items():
        of_data = ".data." in home or ".demo." in home
        sections["Data" if of_data else "Training and scoring"].append(f"{home}.{name}")
    sections["Results of many runs"] = ["cops_lightning.report.load", "cops_lightning.report.compare"]
    page = [
        "# Python",
        "",
        "What `import cops_lightning as cl` gives; everything is imported when it is first used.",
        "",
    ]
    for title in ("Training and scoring", "Data", "Results of many runs"):
        page += [f"## {title}", "", *(line for name in sections[title] for line in (f"::: {name}", ""))]
    return "\n".join(page)


# ---- settings


def settings() -> str:
    """Every key of the configuration: type, default, meaning."""
    page = [
        "# Settings",
        "",
        "Every key of `cops-train` and `cops-eval`, generated from the classes that they are arguments of. A key is "
        "set by `KEY=VALUE` on the command line, an option of a group by `GROUP=OPTION`. `Ge(0)` and the like are "
        "bounds. Classes of other libraries (Lightning's `Trainer`, torch's optimisers) take further arguments, by "
        "the names that their own documentation gives.",
        "",
        "## At the top",
        "",
        table(("key", "type", "default", "meaning"), top_rows()),
    ]
    for group in groups():
        if group.split("/")[0] not in LOADED_ELSEWHERE:
            page += [f"## {group}", "", *of_group(group)]
    page += ["## Choices of settings", "", "These set keys of the groups above.", ""]
    page += [
        f"- `{group}`: {', '.join(map(code, options_of(group)))}"
        for group in groups()
        if group.split("/")[0] in LOADED_ELSEWHERE
    ]
    return "\n".join(page) + "\n"


def top_rows() -> Iterator[Sequence[str]]:
    """The keys that belong to no group."""
    arguments = {
        argument.name: argument
        for schema in ("TrainSettings", "EvalSettings", "Settings")
        for argument in arguments_of(f"cops_lightning.config.settings.{schema}")
    }
    said = "where to find trained weights: `checkpoints/last.ckpt` of a run, or a released `.pth`; of `cops-eval` alone"
    for name, argument in arguments.items():
        if name not in groups():
            yield code(name), code(argument.allowed), shown(argument.default), argument.meaning or said


def shown(value: Any) -> str:
    """A default as one types it."""
    if str(value).startswith("field(default_factory="):
        value = {"list": "[]", "dict": "{}"}[value.removeprefix("field(default_factory=").rstrip(")")]
    return code("null" if value is None else str(value).lower() if isinstance(value, bool) else value)


def of_group(group: str) -> Iterator[str]:
    """The options of a group: for each set of keys a table, with what single options set otherwise."""
    alike: dict[Any, dict[str, list[Setting]]] = defaultdict(dict)
    for name in options_of(group):
        found = [explained(one, group, name) for one in settings_in(f"{group}.", option(group, name))]
        keys = tuple((one.key, one.allowed, one.meaning) for one in found if not one.is_target)
        alike[keys][name] = found
    for keys, named in alike.items():
        if not keys:
            yield f"{', '.join(f'`{group}={name}`' for name in named)}: no settings.\n"
            continue
        first, *others = named
        usual = {one.key: one.value for one in named[first]}
        yield f"### {group}={first} {{#{group}-{first}}}\n"
        yield f"{', '.join(f'`{one.value}`' for one in named[first] if one.is_target)}\n"
        rows = (
            (code(one.key), code(one.allowed), code(one.value), one.meaning)
            for one in named[first]
            if not one.is_target
        )
        yield table(("key", "type", "value", "meaning"), rows)
        for name in others:
            set_otherwise = [
                code(one.value if one.is_target else f"{one.key.removeprefix(f'{group}.')}={one.value}")
                for one in named[name]
                if usual.get(one.key) != one.value
            ]
            yield f"- `{group}={name}`: {', '.join(set_otherwise) or 'the same'}"
        yield ""


def explained(setting: Setting, group: str, name: str) -> Setting:
    """A setting with the comment of its option as its meaning, and a type, where its class is not of this library."""
    if setting.is_target or setting.meaning:
        return setting
    keys = setting.key.removeprefix(f"{group}.").split(".")
    content = option(group, name)
    for key in keys[:-1]:
        content = content[key]
    value, target = content.get(keys[-1]), content.get("_target_")
    allowed = setting.allowed or (
        type_in(target, keys[-1]) if target else OF_VALUE.get(type(value), type(value).__name__)
    )
    return replace(setting, allowed=allowed, meaning=comments(group, name).get(".".join(keys), ""))


def type_in(target: str, name: str) -> str:
    """The type of an argument of any class, as one reads it."""
    return readable(inspect.signature(locate(target)).parameters[name].annotation)  # type: ignore[arg-type]


def readable(annotation: Any) -> str:
    """A type without the modules that its parts are from."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " | ".join(map(readable, parts))
    if origin is Literal:
        return " | ".join(map(str, parts))
    name = "null" if annotation is type(None) else getattr(origin or annotation, "__name__", str(annotation))
    return f"{name}[{', '.join(map(readable, parts))}]" if parts else name


def comments(group: str, name: str) -> dict[str, str]:
    """What an option says behind its keys, and what those of its group say that it begins with."""
    text = (conf_folder() / group / f"{name}.yaml").read_text(encoding="utf-8")
    found: dict[str, str] = {}
    for entry in yaml.safe_load(text).get("defaults", ()):
        if isinstance(entry, str) and entry != "_self_":
            found |= comments(group, entry)
    path: list[str] = []
    for indent, key, comment in re.findall(r"^( *)(\w+):[^#\n]*(?:\s# ?(.*))?$", text, re.MULTILINE):
        path[len(indent) // 2 :] = [key]
        if comment:
            found[".".join(path)] = comment
    return found


def option(group: str, name: str) -> dict[Any, Any]:
    """The content of an option, with that of those of its group that it begins with."""
    from omegaconf import OmegaConf

    content = OmegaConf.load(conf_folder() / group / f"{name}.yaml")
    before = [entry for entry in content.pop("defaults", ()) if isinstance(entry, str) and entry != "_self_"]
    merged = OmegaConf.merge(*(option(group, entry) for entry in before), content)
    return OmegaConf.to_container(merged, resolve=False)  # type: ignore[return-value]


# ---- commands


def commands() -> str:
    """What --help says of every command."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    page = ["# Commands", "", "What `--help` says, of every command."]
    with patch.dict(os.environ, {"COLUMNS": "100"}):
        for name, place in scripts.items():
            module = import_module(place.partition(":")[0])
            page += ["", f"## {name}", ""]
            if name in HYDRA:
                page += ["```text", module.APP.header.strip(), "```", "", "All keys: [settings](settings.md)."]
                continue
            if named := [of for of in vars(module).values() if isinstance(of, WordsCommand) and of.name == name]:
                page += ["```text", named[0].help().strip(), "```"]
                continue
            parser = module._parser()
            page += ["```text", parser.format_help().strip(), "```"]
            for action in parser._actions:
                if isinstance(action, argparse._SubParsersAction):
                    for of, sub in action.choices.items():
                        page += ["", f"### {name} {of}", "", "```text", sub.format_help().strip(), "```"]
    return "\n".join(page) + "\n"


# ---- results.csv


def results() -> str:
    """The columns of results.csv."""
    owners = ("cops_lightning.report.tables.Run", "cops_lightning.core.measured.MetricRow")
    arguments = [argument for owner in owners for argument in arguments_of(owner)]
    rows = ((code(one.name), code(one.allowed.replace(" | null", "")), one.meaning) for one in arguments)
    return (
        "# Columns of results.csv\n\nA line per metric, in full precision; equal results give equal bytes. A value "
        "that the dataset does not define is an empty cell. "
        "The other files are those of [a run's folder](run-folder.md).\n\n" + table(("column", "type", "meaning"), rows)
    )


# ---- datasets


def datasets() -> str:
    """The catalogue: counts, licences, layouts."""
    rows = (
        (code(n), s.title, s.domain, s.licence, *map(count, totals(s.counts.values())), "yes" if s.has_masks else "no")
        for n, s in CATALOG.items()
    )
    others = ", ".join(name for name in CATALOG if name not in BENCHMARK)
    head = ("name", "title", "domain", "licence", "train", "normal", "anomalous", "masks")
    page = [
        "# Datasets",
        "",
        f"The {len(BENCHMARK)} of the benchmark, and {others}. Nothing is downloaded: a dataset is looked for "
        "below `paths.data` by the names of its folders, in the layouts it is passed around in. "
        "Normal and anomalous are test images. *None stated* as a licence means that the publisher states none, not "
        "that there are no terms.",
        "",
        table(head, rows),
        "## Layouts",
        "",
        "`{category}`, `{split}`, `{defect}` and `{stem}` stand for parts of a path, `{defect:a|b}` for one of these "
        "words, `{*}` for what does not matter.",
    ]
    for name, spec in CATALOG.items():
        page += [
            "",
            f"### {spec.title} {{#{name}}}",
            "",
            f"From <{spec.url}>. Folders: {', '.join(map(code, spec.folders))}.",
        ]
        if len(spec.counts) > 1:
            page += ["", f"Categories: {', '.join(spec.counts)}."]
        page += ["", *map(layout, spec.layouts)]
    page += ["", "## Your own", "", "What a folder without a spec is read as, the first that fits:", ""]
    return "\n".join([*page, *map(layout, OWN_LAYOUTS)]) + "\n"


def totals(counts: Any) -> tuple[int, ...]:
    """Of training, normal and anomalous test images."""
    return tuple(map(sum, zip(*((c.train, c.normal, c.anomalous) for c in counts), strict=True)))


def count(number: int) -> str:
    """A number, a dash for none."""
    return f"{number:,}" if number else "-"


def layout(of: Layout) -> str:
    """A layout as an item of a list."""
    if isinstance(of, Table):
        return f"- {of.name}: the table {code(of.file)}"
    masks = f"; masks {' or '.join(map(code, of.masks))}" if of.masks else ""
    return f"- {of.name}: images {' or '.join(map(code, of.images))}{masks}"


# ---- published numbers


def published() -> str:
    """What authors published, in %."""
    with (ROOT / "src/cops_lightning/report/published.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    metrics = list(dict.fromkeys(f"{row['level']} {row['metric']}" for row in rows))
    values: dict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)
    for row in rows:
        of = values[row["model"], row["auxiliary"], row["target"]]
        of[f"{row['level']} {row['metric']}"] = f"{100 * float(row['value']):.1f}"
    lines = ((*key, *(of.get(metric, "") for metric in metrics)) for key, of in values.items())
    origins = "\n".join(f"- {source}" for source in dict.fromkeys(row["source"] for row in rows))
    return (
        "# Published numbers\n\nWhat authors published, in %, which `cops-report` sets beside runs of equal settings. "
        "None of them was measured here.\n\n"
        + table(("model", "trained on", "tested on", *metrics), lines)
        + f"\nSources:\n\n{origins}\n\nThe AUPRO of AnomalyCLIP's tables is left out, as it is not the usual one; the "
        "numbers of Bayes-PFL too, whose image scores were scaled over the images of a category; those of AdaCLIP are "
        "of epochs that were selected on the target.\n"
    )


# ---- examples


def scripts() -> str:
    """The scripts of examples/, whole."""
    page = ["# Scripts to copy", "", "Short programs that run as they are, of `examples/` in a checkout."]
    for path in sorted((ROOT / "examples").glob("*.py")):
        page += ["", f"## {path.name}", "", "```python", path.read_text(encoding="utf-8").strip(), "```"]
    return "\n".join(page) + "\n"
