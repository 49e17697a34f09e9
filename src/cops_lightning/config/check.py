"""Every key of a configuration against the class that it is for, before anything is read, rendered or built."""

import ast
import functools
import inspect
import json
import math
import re
import textwrap
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from hydra._internal.utils import _locate
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from cops_lightning.config.options import options_of
from cops_lightning.config.settings import Metrics, Paths
from cops_lightning.core.errors import ConfigError, listed
from cops_lightning.core.near_miss import did_you_mean

TARGET, PARTIAL = "_target_", "_partial_"
SPECIAL = (TARGET, PARTIAL, "_convert_", "_recursive_", "_args_")
SHOWN = 12  # names of a list that a sentence spells out

# Arguments that are not settings: what builds a component gives them.
GIVEN: dict[str, tuple[str, ...]] = {
    "model": ("backbone",),
    "data": ("auxiliary", "targets"),
    "optimizer": ("params",),
    "scheduler": ("optimizer",),
}
# Groups that are a component, and groups of components by name.
COMPONENTS = ("auxiliary", "preset", "backbone", "model", "data", "corruption", "trainer", "optimizer", "scheduler")
NAMED_COMPONENTS = ("callbacks", "logger")
# Arguments that have a group of their own.
ELSEWHERE = {"trainer.callbacks": "callbacks", "trainer.logger": "logger"}


def check(config: Mapping[str, Any], schema: type) -> None:
    """Raise ConfigError at the first key that is unknown, missing, of the wrong type or not among the allowed values.

    `schema` is the dataclass of the keys at the top, `config` plain values.
    """
    _arguments("", schema, config, ())
    for key, parts in (("paths", Paths), ("metrics", Metrics)):
        _arguments(key, parts, config.get(key) or {}, ())
    _require_targets(config)
    for key, value in config.items():
        check_node(key, value)


def check_node(path: str, value: Any) -> None:
    """`check` of a single node, or of whatever holds nodes; `path` names it in errors."""
    if isinstance(value, Mapping):
        if TARGET in value:
            _node(path, value)
        for key, inner in value.items():
            check_node(f"{path}.{key}", inner)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            check_node(f"{path}[{place}]", inner)


def _require_targets(config: Mapping[str, Any]) -> None:
    nodes = {key: config.get(key) for key in COMPONENTS}
    metrics = {f"metrics.{level}": named for level, named in (config.get("metrics") or {}).items()}
    for group, named in {**{key: config.get(key) for key in NAMED_COMPONENTS}, **metrics}.items():
        nodes |= {f"{group}.{name}": node for name, node in (named or {}).items()}
    for path, node in nodes.items():
        if node and (not isinstance(node, Mapping) or TARGET not in node):
            group = path.split(".")[0]
            raise ConfigError(
                f"{path} is {node!r}, which does not say what it is of. Choose {group}=NAME first ({group}= takes "
                f"{', '.join(options_of(group))}), or add {path}.{TARGET}=CLASS."
            )


def _node(path: str, node: Mapping[str, Any]) -> None:
    target = locate(node[TARGET], path)
    given = {key: value for key, value in node.items() if key not in SPECIAL}
    for key in given:
        if f"{path}.{key}" in ELSEWHERE and given[key] is not None:
            group = ELSEWHERE[f"{path}.{key}"]
            raise ConfigError(f"{path}.{key} is set, yet the group {group} decides it; add to {group}.NAME instead.")
    _arguments(path, target, given, GIVEN.get(path, ()), partial=bool(node.get(PARTIAL)) or "_args_" in node)


def _arguments(
    path: str, target: Callable[..., Any], given: Mapping[str, Any], built: tuple[str, ...], partial: bool = False
) -> None:
    """`given` as keyword arguments of `target`, which gets `built` from elsewhere."""
    name, at = _name(target), f"{path}." if path else ""
    parameters = _parameters(target)
    for key, value in given.items():
        if key in parameters and key not in built:
            _value(f"{at}{key}", value, parameters[key], name)
        elif None not in parameters:
            raise ConfigError(_unknown(f"{at}{key}", key, [k for k in parameters if k not in built], name, at))
    missing = [
        key
        for key, parameter in parameters.items()
        if key is not None and parameter.default is parameter.empty and key not in (*given, *built)
    ]
    if missing and not partial:
        raise ConfigError(f"{at}{missing[0]} has no value, and {name} needs it. Add {at}{missing[0]}=VALUE.")


def _parameters(target: Callable[..., Any]) -> dict[Any, inspect.Parameter]:
    """The keyword arguments of a callable, with their types. The key None stands for any other name (`**kwargs`).

    A constructor that passes `**kwargs` on to that of its base takes what the base takes.
    """
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # written in C
        return {None: inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)}
    hints = _hints(target)
    found: dict[Any, inspect.Parameter] = {}
    for key, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            found[None] = parameter
        elif parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            found[key] = parameter.replace(annotation=hints.get(key, parameter.empty))
    base = _base_of(target) if None in found else None
    if base is not None:
        del found[None]
        found = {**_parameters(base), **found}
    return found


def _base_of(target: Callable[..., Any]) -> Callable[..., Any] | None:
    """The class whose constructor is passed the further arguments of `target`, if its source says just that."""
    if not isinstance(target, type) or "__signature__" in target.__dict__:
        return None
    owners = [owner for owner in target.__mro__ if "__init__" in owner.__dict__]
    if len(owners) < 2 or owners[1] is object:
        return None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(owners[0].__init__)))  # type: ignore[misc]
    except (OSError, TypeError, SyntaxError):
        return None
    function = tree.body[0]
    if not isinstance(function, ast.FunctionDef) or function.args.kwarg is None:
        return None
    name = function.args.kwarg.arg
    used = [node for node in ast.walk(function) if isinstance(node, ast.Name) and node.id == name]
    passed = [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__"
        if any(word.arg is None and ast.unparse(word.value) == name for word in node.keywords)
    ]
    return owners[1] if len(used) == len(passed) == 1 else None


def _hints(target: Callable[..., Any]) -> dict[str, Any]:
    if isinstance(target, type) and "__signature__" in target.__dict__:
        return {key: p.annotation for key, p in target.__signature__.parameters.items()}  # type: ignore[attr-defined]
    holder = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]
    try:
        return typing.get_type_hints(inspect.unwrap(holder), include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def _value(path: str, value: Any, parameter: inspect.Parameter, name: str) -> None:
    if kinds := _wrong_part(path, value, parameter.annotation):
        raise ConfigError(f"{path} is a {value[TARGET]}, which {name} does not take; expected {kinds}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{path} is {value}; expected a finite number.")
    if parameter.annotation in (parameter.empty, Any) or value == parameter.default or _holds_node(value):
        return
    adapter = _adapter(parameter.annotation)
    if adapter is None:
        return
    try:
        adapter.validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        found = [problem["msg"].removeprefix("Input should be ") for problem in error.errors()]
        near = did_you_mean(str(value), re.findall("'([^']+)'", " ".join(found)))
        raise ConfigError(
            f"{path} is {value!r}, which {name} does not take; expected {' or '.join(found)}.{near}"
        ) from None


@functools.lru_cache
def _adapter_of(annotation: Any) -> Any:
    try:
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except PydanticUserError:
        pass
    try:
        return TypeAdapter(annotation)
    except PydanticUserError:
        return None


def _adapter(annotation: Any) -> Any:
    try:
        return _adapter_of(annotation)
    except TypeError:  # an annotation that cannot be hashed
        return None


def _wrong_part(path: str, value: Any, annotation: Any) -> str:
    """The classes that a type spells out, if a node is of none of them; "" where it fits, or where nothing is said."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    kinds = typing.get_args(annotation) if union else (annotation,)
    if not isinstance(value, Mapping) or TARGET not in value or PARTIAL in value:
        return ""
    target = locate(value[TARGET], path)
    known = all(isinstance(kind, type) and not getattr(kind, "_is_protocol", False) for kind in kinds)
    if not known or not isinstance(target, type) or issubclass(target, kinds):
        return ""
    return " or ".join(f"{k.__module__}.{k.__qualname__}" for k in kinds if k.__module__ != "builtins")


def _holds_node(value: Any) -> bool:
    """Whether objects will stand in this value's place, or within it, when it is built."""
    if isinstance(value, Mapping):
        return TARGET in value or any(map(_holds_node, value.values()))
    return isinstance(value, list) and any(map(_holds_node, value))


def _unknown(path: str, key: str, known: list[Any], name: str, at: str) -> str:
    names = [str(k) for k in known if k is not None]
    near = did_you_mean(key, names, cutoff=0.5, before=at)
    takes = listed(names, SHOWN) or "no settings"
    return f"{path} is no setting of {name}.{near or f' It takes {takes}.'}"


def locate(target: Any, path: str) -> Callable[..., Any]:
    """What `_target_` names. Raises ConfigError, naming the key, where that cannot be imported or called."""
    reason = "it is no dotted name"
    try:
        found = _locate(target) if isinstance(target, str) and "." in target else None
    except Exception as error:  # whatever the user's own file raises when it is imported
        found, reason = None, " ".join(str(error).splitlines()[1:]) or str(error)
    if not callable(found):
        raise ConfigError(
            f"{path}.{TARGET} is {target!r}, which cannot be imported ({reason}). Expected the dotted name of a class, "
            "in a package that is installed or in a file beside the folder of your configuration."
        )
    return typing.cast(Callable[..., Any], found)


def _name(target: Callable[..., Any]) -> str:
    module, name = getattr(target, "__module__", ""), getattr(target, "__qualname__", str(target))
    if module.startswith("cops_lightning.config"):
        return "the configuration" if "Settings" in name else name.lower()
    return name if module.startswith("cops_lightning") else f"{module.split('.')[0]}.{name}"
