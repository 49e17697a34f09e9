"""Commands that take words and KEY=VALUE: their settings are a dataclass, whose docstring says what each key means."""

import inspect
import os
import re
import sys
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import ConfigDict, TypeAdapter

from cops_lightning.cli.console import exit_code
from cops_lightning.core.errors import ConfigError, excerpt, listed
from cops_lightning.core.near_miss import did_you_mean

if typing.TYPE_CHECKING:
    from cops_lightning.export.runtime import ExportedDetector
    from cops_lightning.models.detector import Detector

S = TypeVar("S")
EXPORTED = (".onnx", ".xml", ".pt2")  # suffixes of exported files that can be run here
SHOWN = 12  # keys that a sentence spells out
_SETTING = re.compile(r"([A-Za-z][\w.-]*)=(.*)", re.DOTALL)
_PLAIN: dict[Any, str] = {str: "text", Path: "path", int: "whole number", float: "number", bool: "true | false"}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True, kw_only=True)
class DetectorSettings:
    """Which detector, and where it computes.

    Args:
        checkpoint: the trained detector: a checkpoint of cops-train, or a .pth in the authors' released format;
            cops-predict and cops-calibrate also take an .onnx, .xml or .pt2 of cops-export.
        backbone: name of the frozen CLIP, a file of conf/backbone; default: what the checkpoint says. A .pth needs it.
        auxiliary: what a .pth was trained on, visa or mvtec; other checkpoints say so themselves.
        weights: file with CLIP's weights, where it lies elsewhere than the backbone says.
        device: where to compute, such as cpu, cuda or cuda:1; default: a GPU where there is one.
    """

    checkpoint: Path
    backbone: str | None = None
    auxiliary: str | None = None
    weights: Path | None = None
    device: str | None = None


def exported_of(settings: DetectorSettings, **options: Any) -> "ExportedDetector | None":
    """The exported file of these settings, None where they name a checkpoint; `options` are further arguments of it.

    Raises ConfigError where they say of a file what it says itself.
    """
    if settings.checkpoint.suffix.lower() not in EXPORTED:
        return None
    from cops_lightning.export.runtime import ExportedDetector  # torch takes seconds

    if needless := [key for key in ("backbone", "auxiliary", "weights") if getattr(settings, key) is not None]:
        raise ConfigError(
            f"{settings.checkpoint} is an exported file, which holds all of it. Leave out {needless[0]}=."
        )
    if settings.device not in (None, "cpu"):
        raise ConfigError(f"An exported file runs on the CPU here, not on {settings.device}. Leave out device=.")
    return ExportedDetector(settings.checkpoint, **options)


def detector_of(settings: DetectorSettings, **options: Any) -> "Detector":
    """The detector of these settings; `options` are further arguments of `load`."""
    from cops_lightning.core.devices import find_device  # torch takes seconds
    from cops_lightning.models.load import load

    return load(
        settings.checkpoint,
        auxiliary=settings.auxiliary,
        backbone=settings.backbone,
        weights=settings.weights,
        device=find_device(settings.device),
        **options,
    )


@dataclass(frozen=True)
class WordsCommand(Generic[S]):
    """A command that takes words and settings.

    Args:
        name: of the command.
        settings: dataclass of the keys. Its docstring is the purpose, and explains each key in `Args:`.
        words: what the words are, such as "SOURCE ..."; "" where the command takes none.
        more: what --help ends with, such as examples.
        needs_words: whether there must be one.
    """

    name: str
    settings: type[S]
    words: str = ""
    more: str = ""
    needs_words: bool = True

    def main(
        self,
        argv: Sequence[str] | None,
        act: Callable[[list[str], S], int],
        interrupted: str = "interrupted.",
    ) -> int:
        """The exit code of `act` with the words and settings of a command line; see `cli.console.exit_code`."""
        given = list(sys.argv[1:] if argv is None else argv)
        if {"--help", "-h"} & set(given):
            print(self.help())
            return 0
        return exit_code(lambda: act(*self.read(given)), interrupted)

    def read(self, given: Sequence[str]) -> tuple[list[str], S]:
        """The words, and the settings, of a command line.

        What reads KEY=VALUE is a setting, unless KEY is unknown and a file is called so. Raises ConfigError for unknown
        keys, those that are given twice or are missing, values of another type, and words where none are taken.
        """
        known = self._fields()
        words: list[str] = []
        values: dict[str, Any] = {}
        for word in given:
            setting = _SETTING.fullmatch(word)
            if setting is None or (setting[1] not in known and Path(word).exists()):
                words.append(self._word(word))
                continue
            key, value = setting.groups()
            if key not in known:
                raise ConfigError(self._unknown(word, key, list(known)))
            if key in values:
                raise ConfigError(f"{key} is given twice. Give it once.")
            values[key] = self._value(key, value, known[key])
        if words and not self.words:
            raise ConfigError(f"{self.name} takes settings alone, such as {next(iter(known))}=VALUE; got {words[0]!r}.")
        if self.words and self.needs_words and not words:
            raise ConfigError(f"{self.name} needs a {self.words.split()[0]}. See {self.name} --help.")
        for key, field in known.items():
            if key not in values and _is_needed(field):
                raise ConfigError(f"{key} has no value, and {self.name} needs it. Add {key}=VALUE.")
        return words, self.settings(**values)

    def help(self) -> str:
        """Usage, purpose, and every key with its type, its default and its meaning."""
        purpose, meanings = documented(self.settings)
        lines = [f"usage: {self.name} {self.words} KEY=VALUE ...".replace("  ", " "), "", *_wrapped(purpose), ""]
        lines.append("settings:")
        for key, field in self._fields().items():
            kind = in_words(self._types()[key])
            default = "needed" if _is_needed(field) else _shown(field)
            lines += [f"  {key}=   ({kind}; {default})", *_wrapped(meanings[key], "      ")]
        return "\n".join([*lines, *(["", self.more.strip()] if self.more else [])])

    def _fields(self) -> Mapping[str, Field[Any]]:
        return {field.name: field for field in fields(self.settings)}  # type: ignore[arg-type]

    def _types(self) -> dict[str, Any]:
        return typing.get_type_hints(self.settings, include_extras=True)

    def _word(self, word: str) -> str:
        if not word:
            raise ConfigError(f"{self.name} got an empty word, as of a variable that is not set. Leave it out.")
        if word.startswith("-"):
            raise ConfigError(
                f"{self.name} has no option {word!r}; its settings are given as KEY=VALUE. A file of this name is "
                f"./{word}. See {self.name} --help."
            )
        return word

    def _unknown(self, word: str, key: str, known: list[str]) -> str:
        near = did_you_mean(key, known, cutoff=0.5) or f" It takes {listed(known, SHOWN)}."
        file = f" There is no file of this name either: {excerpt(word)}." if self.words and "." in word else ""
        return f"{key} is no setting of {self.name}.{near}{file}"

    def _value(self, key: str, text: str, field: Field[Any]) -> Any:
        annotation = self._types()[key]
        parts = _parts(annotation)
        if text in ("null", "none", "None") and type(None) in parts:
            return None
        value: Any = text
        if lists := [part for part in parts if typing.get_origin(part) in (list, tuple)]:
            inner = _parts(typing.get_args(lists[0])[0])
            value = text.split(",") if int in inner and text[:1] != "[" else _list(key, text)  # a path may have commas
        if Path in parts:
            # A shell leaves "~" behind "=" as it is.
            value = text if Path(text).exists() else os.path.expanduser(text)
        adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))
        try:
            if text == "":
                raise ValueError
            return adapter.validate_python(value)
        except ValueError:  # which pydantic's ValidationError is
            kind = in_words(annotation)
            near = did_you_mean(text, [choice for choice in kind.split(" | ") if " " not in choice])
            raise ConfigError(f"{key} is {excerpt(text)!r}; expected {kind.replace(' | ', ' or ')}.{near}") from None


def documented(settings: type) -> tuple[str, dict[str, str]]:
    """The first paragraph of a dataclass's docstring, and what `Args:` says of each key, inherited ones included."""
    purpose = (inspect.getdoc(settings) or "").partition("\n\n")[0].replace("\n", " ")
    meanings: dict[str, str] = {}
    for owner in reversed(settings.__mro__):
        _, _, listing = inspect.cleandoc(owner.__dict__.get("__doc__") or "").partition("\nArgs:\n")
        for entry in re.split(r"\n(?=    \S)", listing.partition("\n\n")[0]):
            key, colon, meaning = entry.strip().partition(": ")
            if colon:
                meanings[key] = " ".join(meaning.split())
    return purpose, meanings


def in_words(annotation: Any) -> str:
    """A type as --help and errors say it: allowed values, or the kind of value with its bounds."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return " ".join([in_words(parts[0]), *filter(None, map(_bounds, parts[1:]))])
    if origin is Literal:
        return " | ".join(map(str, parts))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(in_words(part) for part in parts if part is not type(None))
    if origin in (list, tuple):
        return f"list of {in_words(parts[0])}, as [A,B]"
    return _PLAIN.get(annotation) or str(getattr(annotation, "__name__", annotation))


def _bounds(constraint: Any) -> str:
    found = [f"{said} {getattr(constraint, name)}" for name, said in _BOUNDS.items() if _bound(constraint, name)]
    return " and ".join(found)


def _bound(constraint: Any, name: str) -> bool:
    return getattr(constraint, name, None) is not None


def _parts(annotation: Any) -> tuple[Any, ...]:
    """The types that a value may have."""
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _parts(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return tuple(part for inner in typing.get_args(annotation) for part in _parts(inner))
    return (annotation,)


def _list(key: str, text: str) -> list[str]:
    """The parts of "[a,b]", in which quotes keep commas; another text is a list of itself."""
    if not (text.startswith("[") and text.endswith("]")):
        return [text]
    found = list(_split(text[1:-1]))
    if any(part is None for part in found):
        raise ConfigError(f"{key} is {excerpt(text)!r}, in which a quotation mark is not closed.")
    return [part for part in found if part]


def _split(text: str) -> Iterator[str | None]:
    part, quote = "", ""
    for letter in text:
        if letter == quote:
            quote = ""
        elif not quote and letter in "'\"" and not part.strip():
            quote = letter
        elif letter == "," and not quote:
            yield part.strip()
            part = ""
        else:
            part += letter
    yield None if quote else part.strip()


def _is_needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _shown(field: Field[Any]) -> str:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    if default is None or default in ((), []):
        return "optional"
    return f"default {str(default).lower() if isinstance(default, bool) else default}"


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=indent, subsequent_indent=indent, break_long_words=False)
