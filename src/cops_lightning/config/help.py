"""The text of --help: all groups with their options, all settings with their values, types and allowed values.

Signatures are read from the source, so that nothing has to be imported: torch alone takes seconds.
"""

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cops_lightning.config.check import GIVEN, PARTIAL, TARGET
from cops_lightning.config.options import options_of, register
from cops_lightning.core.files import conf_folder

PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Argument:
    """An argument of a class or function of this library.

    Args:
        name: of it.
        allowed: its type, or its allowed values.
        default: its value where none is given; empty where there is none.
        meaning: what the docstring says of it.
    """

    name: str
    allowed: str
    default: Any
    meaning: str


@dataclass(frozen=True)
class Setting:
    """A key of a configuration, or the class that the keys of a node are arguments of.

    Args:
        key: its dotted name.
        value: what it is set to, as one types it; the name of the class where `is_target`.
        allowed: its type, or its allowed values; empty where the class is not of this library.
        meaning: what the docstring of the class says of it.
        is_target: whether it is the class of a node.
    """

    key: str
    value: str
    allowed: str = ""
    meaning: str = ""
    is_target: bool = False

    def __str__(self) -> str:
        if self.is_target:
            return f"{self.key}: {self.value}"
        return f"{self.key}={self.value}" + (f"   ({self.allowed})" if self.allowed else "")


def groups() -> list[str]:
    """The groups of options in conf/."""
    folders = {path.parent.relative_to(conf_folder()).as_posix() for path in conf_folder().rglob("*/*.yaml")}
    return sorted(folders, key=lambda name: ("/" in name, name))


def help_lines(name: str, overrides: list[str]) -> Iterator[str]:
    """What there is to configure in conf/NAME.yaml, with the values that these overrides give."""
    yield "\nGroups to choose from (group=option; several loggers: logger=[csv,wandb])\n"
    yield from (f"  {group}: {', '.join(options_of(group))}" for group in groups())
    yield "\nSettings, with the values of this command line, and what they may be\n"
    yield from (f"  {line}" for line in settings_of(name, overrides))
    yield "\nEvery other argument of the classes above may be given too; a name that is none of them is an error."
    yield 'Shell completion: eval "$(cops-train --shell-completion install=bash)" (or zsh, fish): docs/command-line.md.'


def settings_of(name: str, overrides: list[str]) -> Iterator[str]:
    """A line per setting."""
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = OmegaConf.to_container(compose(name, overrides), resolve=False)
    assert isinstance(config, dict)
    yield from map(str, settings_in("", config))


def known_settings() -> list[str]:
    """The dotted names of all settings of cops-train, as far as its options and our own classes state them."""
    return [line.split("=")[0] for line in settings_of("train", []) if "=" in line]


def settings_in(at: str, content: Mapping[Any, Any]) -> Iterator[Setting]:
    """The settings of a node, given or not, and of the nodes within; `at` is put before their names."""
    target = content.get(TARGET)
    known = {argument.name: argument for argument in arguments_of(str(target))} if target else {}
    if target:
        yield Setting(at[:-1], str(target), is_target=True)
    for key in dict.fromkeys((*content, *known)):
        if key in (TARGET, PARTIAL, *GIVEN.get(at[:-1], ())):
            continue
        argument = known.get(key, Argument(key, "", "", ""))
        value = content.get(key, argument.default)
        if isinstance(value, Mapping) and value:
            yield from settings_in(f"{at}{key}.", value)
        else:
            shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
            yield Setting(f"{at}{key}", shown, argument.allowed, argument.meaning)


def arguments_of(target: str) -> Iterator[Argument]:
    """Every argument of a class or function of this library, by its dotted name; of others none."""
    module, found = _definition(*target.rpartition(".")[::2])
    said = _meanings(found)
    if isinstance(found, ast.ClassDef):
        constructors = [node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
        if not constructors or constructors[0].args.kwarg:  # what is inherited, or passed on
            for base in found.bases:
                yield from arguments_of(f"{module}.{ast.unparse(base)}")
        fields = any("dataclass" in ast.unparse(decorator) for decorator in found.decorator_list)
        for node in found.body if fields and not constructors else ():
            if isinstance(node, ast.AnnAssign) and not ast.unparse(node.annotation).startswith("ClassVar"):
                name = ast.unparse(node.target)
                yield Argument(name, _type(module, node.annotation), _value(node.value), said.get(name, ""))
        found = constructors[0] if constructors else None
    if isinstance(found, ast.FunctionDef):
        spec = found.args
        defaults = [*[None] * (len(spec.args) - len(spec.defaults)), *spec.defaults, *spec.kw_defaults]
        for argument, default in zip([*spec.args, *spec.kwonlyargs], defaults, strict=True):
            if (name := argument.arg) != "self":
                yield Argument(name, _type(module, argument.annotation), _value(default), said.get(name, ""))


def _meanings(found: ast.stmt | None) -> dict[str, str]:
    """What the Args section of a docstring says of each argument."""
    if not isinstance(found, ast.ClassDef | ast.FunctionDef):
        return {}
    _, _, section = inspect.cleandoc(ast.get_docstring(found) or "").partition("Args:\n")
    section = re.split(r"\n(?=\S)", section)[0]
    parts = re.findall(r"^ {4}(\w+(?:, \w+)*): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for names, text in parts for name in names.split(", ")}


def _value(default: ast.expr | None) -> Any:
    try:
        return "" if default is None else ast.literal_eval(default)
    except ValueError:
        return ast.unparse(default) if default else ""


def _type(module: str, annotation: ast.expr | None) -> str:
    """A type in words: the allowed values of a Literal, aliases replaced by what they stand for."""
    match annotation:
        case None:
            return ""
        case ast.BinOp(left=left, right=right):
            return f"{_type(module, left)} | {_type(module, right)}"
        case ast.Subscript(value=ast.Name("Literal"), slice=inner):
            return " | ".join(ast.unparse(value).strip("'") for value in getattr(inner, "elts", [inner]))
        case ast.Subscript(value=ast.Name("Annotated"), slice=ast.Tuple(parts)):
            return ", ".join(map(ast.unparse, parts))
        case ast.Name(name):
            where, found = _definition(module, name)
            if isinstance(found, ast.Assign):
                return _type(where, found.value)
    return ast.unparse(annotation).replace("None", "null")


def _definition(module: str, name: str) -> tuple[str, ast.stmt | None]:
    """Where a name of a module of this library is defined, and its syntax tree; None for other names."""
    for node in _tree(module):
        match node:
            case ast.ClassDef(name=found) | ast.FunctionDef(name=found) | ast.Assign(targets=[ast.Name(found)]):
                if found == name:
                    return module, node
            case ast.ImportFrom(module=str(home), names=names):
                for original in (alias.name for alias in names if (alias.asname or alias.name) == name):
                    return _definition(home, original)
    return module, None


@cache
def _tree(module: str) -> list[ast.stmt]:
    package, *parts = module.split(".")
    path = PACKAGE.joinpath(*parts)
    file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
    return ast.parse(file.read_text(encoding="utf-8")).body if package == PACKAGE.name and file.is_file() else []
