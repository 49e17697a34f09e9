"""Methods: which results may share a row, and what each of them is called."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from cops_lightning.core.errors import CopsError
from cops_lightning.core.names import printable

SHORT = 8  # characters of a hash in a name
SHORTEST = 4  # characters of a hash that may stand for all of it
MOST_SETTINGS = 3  # settings in a name


@dataclass(frozen=True)
class Method:
    """Runs that differ in nothing but the seed, the auxiliary dataset and the targets.

    Args:
        hash: Of all settings that can change its numbers.
        name: What the report calls it; no two methods of a report share one.
        labels: The variants that its runs were filed under, in order.
    """

    hash: str
    name: str
    labels: tuple[str, ...]


def name_methods(
    labels: Mapping[str, Sequence[str]], settings: Mapping[str, Mapping[str, Any]]
) -> tuple[tuple[Method, ...], tuple[str, ...]]:
    """A name for every method, and a sentence on each label that does not mean one method alone.

    A method is called by its first label. Where that is the label of several methods, the settings in which these
    differ are added; a short hash where the settings are equal or unknown.

    Args:
        labels: By hash, the labels of the method's runs in order, at least one.
        settings: By hash, the nested settings, where they are known.
    """
    alike: dict[str, list[str]] = {}
    for key, given in labels.items():
        alike.setdefault(given[0], []).append(key)
    candidates: dict[str, list[str]] = {}
    notes = []
    for label, keys in alike.items():
        texts = {key: _texts(settings[key]) for key in keys if key in settings}
        different = _different(list(texts.values()))
        for key in keys:
            hashed = [f"{label} ({key[:SHORT]})", f"{label} ({key})"]
            described = [f"{label} ({_described(texts[key], different)})"] if key in texts and different else []
            candidates[key] = ([label] if len(keys) == 1 else described) + hashed
        if len(keys) > 1:
            known = f" (they differ in {_listed(different)})" if different else ""
            notes.append(f"{len(keys)} methods have the label {label}{known}: each has a row of its own.")
    names = _distinct(candidates)
    for key, given in labels.items():
        if len(given) > 1:
            notes.append(f"The labels {', '.join(given)} stand for equal settings: they are one method, {names[key]}.")
    return tuple(Method(key, names[key], tuple(given)) for key, given in labels.items()), tuple(notes)


def find_method(methods: Sequence[Method], asked: str) -> Method:
    """The method with this name or label, else the one whose hash begins so.

    Raises CopsError if there is none, naming the nearest that there is, or several, naming all.
    """
    asked = printable(asked)
    called = [method for method in methods if asked in (method.name, *method.labels)]
    hashed = [method for method in methods if len(asked) >= SHORTEST and method.hash.startswith(asked)]
    found = called or hashed
    if len(found) == 1:
        return found[0]
    if found:
        candidates = ", ".join(f"{method.name!r} (hash {method.hash[:SHORT]})" for method in found)
        raise CopsError(
            f"{asked!r} stands for {len(found)} methods: {candidates}. Give one of these names, or the start of a hash."
        )
    known = sorted(method.name for method in methods)
    near = get_close_matches(asked, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}."
    raise CopsError(f"No finished run is of the method {asked!r}; {hint}")


def flatten(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{above}{key}.")
        else:
            flat[above + key] = value
    return flat


def _texts(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as people read them."""
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in flatten(settings).items()}
    return {printable(key): printable(text) for key, text in texts.items()}


def _different(all_texts: Sequence[Mapping[str, str]]) -> list[str]:
    keys = sorted({key for texts in all_texts for key in texts})
    return [key for key in keys if len({texts.get(key) for texts in all_texts}) > 1]


def _described(texts: Mapping[str, str], keys: Sequence[str]) -> str:
    return _listed([f"{key}={texts[key]}" if key in texts else f"{key} unset" for key in keys])


def _listed(parts: Sequence[str]) -> str:
    more = len(parts) - MOST_SETTINGS
    return ", ".join(parts[:MOST_SETTINGS]) + (f", {more} more" if more > 0 else "")


def _distinct(candidates: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The first candidate of each key that no other key has; the last ones, which hold the whole hash, differ."""
    at = dict.fromkeys(candidates, 0)
    while True:
        names = {key: candidates[key][place] for key, place in at.items()}
        taken = Counter(names.values())
        shared = [key for key, name in names.items() if taken[name] > 1 and at[key] < len(candidates[key]) - 1]
        if not shared:
            return names
        for key in shared:
            at[key] += 1
