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

from cops_lightning.config.check import GIVEN, PARTIAL, TARGET
from cops_lightning.config.options import options_of, register
from cops_lightning.core.files import conf_folder

PACKAGE = Path(__file__).parents[1]


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
    yield 'Shell completion: eval "$(cops-train --shell-completion install=bash)" (or zsh, fish); see the README.'


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
    target = content.get(TARGET)
    known = dict(_arguments(str(target))) if target else {}
    if target:
        yield f"{at[:-1]}: {target}"
    for key in dict.fromkeys((*content, *known)):
        if key in (TARGET, PARTIAL, *GIVEN.get(at[:-1], ())):
            continue
        allowed, default = known.get(key, ("", ""))
        value = content.get(key, default)
        if isinstance(value, Mapping) and value:
            yield from _lines(f"{at}{key}.", value)
        else:
            shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else value
            yield f"{at}{key}={shown}" + (f"   ({allowed})" if allowed else "")


def _arguments(target: str) -> Iterator[tuple[str, tuple[str, Any]]]:
    """Name, allowed values or type, and default of every argument of a class or function of this library."""
    module, found = _definition(*target.rpartition(".")[::2])
    if isinstance(found, ast.ClassDef):
        constructors = [node for node in found.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
        if not constructors or constructors[0].args.kwarg:  # what is inherited, or passed on
            for base in found.bases:
                yield from _arguments(f"{module}.{ast.unparse(base)}")
        for node in () if constructors else found.body:
            if isinstance(node, ast.AnnAssign) and not ast.unparse(node.annotation).startswith("ClassVar"):
                yield ast.unparse(node.target), (_type(module, node.annotation), _value(node.value))
        found = constructors[0] if constructors else None
    if isinstance(found, ast.FunctionDef):
        spec = found.args
        defaults = [*[None] * (len(spec.args) - len(spec.defaults)), *spec.defaults, *spec.kw_defaults]
        for argument, default in zip([*spec.args, *spec.kwonlyargs], defaults, strict=True):
            if argument.arg != "self":
                yield argument.arg, (_type(module, argument.annotation), _value(default))


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
