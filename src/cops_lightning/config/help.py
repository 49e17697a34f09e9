"""The text of --help: all groups with their options, all settings with their values, types and allowed values.

Signatures are read from the source, so that nothing has to be imported: torch alone takes seconds.
"""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from rich.console import Console

from cops_lightning.config.check import TARGET
from cops_lightning.config.options import options_of, register
from cops_lightning.core.files import conf_folder

PACKAGE = Path(__file__).parents[1]
TOP = [
    "paths",
    "backbone",
    "model",
    "preset",
    "auxiliary",
    "optimizer",
    "scheduler",
    "data",
    "corruption",
    "metrics",
    "trainer",
    "callbacks",
    "logger",
]
GROUPS = (*TOP, "ablation", "experiment", "debug", "hydra/launcher", "hydra/sweeper")


def show_help(name: str, header: str, overrides: list[str]) -> None:
    """Print the help of a command, with the values that these overrides give."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(header, markup=False)
    console.print("\nGroups to choose from (group=option; several loggers: logger=[csv,wandb])\n", markup=False)
    for group in GROUPS:
        if options := options_of(group):
            console.print(f"  {group}: {', '.join(options)}", markup=False)
    console.print("\nSettings, with the values of this command line, and what they may be\n")
    for line in settings_of(name, overrides):
        console.print(f"  {line}", markup=False)
    console.print(
        "\nEvery other argument of the classes above may be given too; a name that is none of them is an error.\n"
        'Shell completion: eval "$(cops-train --shell-completion install=bash)" (or zsh, fish); see the README.',
        markup=False,
    )


def settings_of(name: str, overrides: list[str]) -> Iterator[str]:
    """A line per setting."""
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = OmegaConf.to_container(compose(name, overrides), resolve=False)
    assert isinstance(config, dict)
    yield from _lines("", config)


def known_settings() -> list[str]:
    """The dotted names of all settings of cops-train, as far as its options and our own classes state them."""
    return [line.split("=")[0] for line in settings_of("train", []) if "=" in line]


def _lines(at: str, content: Mapping[Any, Any]) -> Iterator[str]:
    known = dict(arguments(str(content[TARGET]))) if TARGET in content else {}
    if TARGET in content:
        yield f"{at[:-1]}: {content[TARGET]}"
    for key in dict.fromkeys((*content, *known)):
        if key in (TARGET, "_partial_", "backbone", "self", "auxiliary", "targets") and TARGET in content:
            continue
        allowed, default = known.get(key, ("", ""))
        value = content.get(key, default)
        if isinstance(value, Mapping) and value:
            yield from _lines(f"{at}{key}.", value)
        else:
            note = f"   ({allowed})" if allowed else ""
            yield f"{at}{key}={_shown(value)}{note}"


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def arguments(target: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Name, allowed values or type, and default of every argument of a class or function of this library."""
    module, _, name = target.rpartition(".")
    found = _definition(module, name)
    if found is None:
        return
    module, node = found
    bases: list[ast.expr] = []
    if isinstance(node, ast.ClassDef):
        constructor = next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"), None)
        if constructor is None:
            fields = [n for n in node.body if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)]
            for base in node.bases:
                yield from arguments(f"{module}.{ast.unparse(base)}")
            for field in fields:
                assert isinstance(field.target, ast.Name)
                if not ast.unparse(field.annotation).startswith("ClassVar"):
                    yield field.target.id, (_type(module, field.annotation), _default(field.value))
            return
        bases, node = node.bases, constructor
    spec = node.args
    listed = [*spec.posonlyargs, *spec.args]
    defaults = [None] * (len(listed) - len(spec.defaults)) + list(spec.defaults)
    for argument, default in zip([*listed, *spec.kwonlyargs], [*defaults, *spec.kw_defaults], strict=True):
        if argument.arg != "self":
            yield argument.arg, (_type(module, argument.annotation), _default(default))
    for base in bases if spec.kwarg else ():  # what it passes on
        yield from arguments(f"{module}.{ast.unparse(base)}")


def _default(value: ast.expr | None) -> str:
    return (
        ""
        if value is None
        else ast.unparse(value).strip("'").replace("None", "null").replace("True", "true").replace("False", "false")
    )


def _type(module: str, annotation: ast.expr | None) -> str:
    """A type in words: the allowed values of a Literal, aliases replaced by what they stand for."""
    if annotation is None:
        return ""
    if isinstance(annotation, ast.BinOp):
        return " | ".join(_type(module, part) for part in (annotation.left, annotation.right))
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        values = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        return " | ".join(ast.unparse(value).strip("'") for value in values)
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
        assert isinstance(annotation.slice, ast.Tuple)
        return ", ".join(ast.unparse(part) for part in annotation.slice.elts)
    if isinstance(annotation, ast.Name) and (found := _definition(module, annotation.id)):
        where, node = found
        if isinstance(node, ast.Assign):
            return _type(where, node.value)
    return ast.unparse(annotation).replace("None", "null")


def _definition(module: str, name: str) -> tuple[str, Any] | None:
    """Where a name of a module of this library is defined, and its syntax tree."""
    tree = _tree(module)
    for node in tree.body if tree else ():
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return module, node
        if isinstance(node, ast.ImportFrom) and node.module and any((a.asname or a.name) == name for a in node.names):
            original = next(a.name for a in node.names if (a.asname or a.name) == name)
            return _definition(node.module, original)
    return None


@cache
def _tree(module: str) -> ast.Module | None:
    parts = module.split(".")
    if parts[0] != PACKAGE.name:
        return None
    path = PACKAGE.joinpath(*parts[1:])
    file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
    return ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else None
