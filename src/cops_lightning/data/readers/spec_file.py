"""A dataset of one's own, described by a few lines of YAML."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import yaml

from cops_lightning.core.choices import Split
from cops_lightning.core.errors import DatasetError, quoted
from cops_lightning.core.near_miss import did_you_mean
from cops_lightning.data.readers.listings import ROLES
from cops_lightning.data.readers.spec import SPLIT_WORDS, BlankMask, DatasetSpec, Folders, Layout, Table

KEYS = (
    "name", "root", "images", "masks", "unpaired", "blank", "table", "columns", "normal", "splits", "category",
    "defect", "mask_threshold",
)  # fmt: skip
MOST = 1 << 18  # bytes of a spec


def read_spec_file(path: Path) -> tuple[DatasetSpec, Path]:
    """The dataset that a YAML file describes, and its root. Keys:

    - `name`: default, the name of the file. `root`: relative to the file; default, its folder.
    - `images`, `masks`: path templates, one or a list, such as `MT_{defect}/Imgs/{stem}.jpg`; or
    - `table`, `columns`: a CSV or JSON-lines file below the root, and the columns that play a role in it.
    - `unpaired`: `normal`, if an image without a mask is normal rather than an error.
    - `blank`: what an image with a blank mask is: `normal`, `anomalous` or an `error`; default: normal where there is
      no {defect}, else an error.
    - `normal`: the words, one or a list, that mean a normal image: values of {defect}, or labels of the table.
    - `splits`: the words, one or a list, that mean `train` and `test`.
    - `category`: the one category of the set; default, {category} of the template, else the name.
    - `defect`: what the defect is called where nothing says it. `mask_threshold`: default, as the masks show.

    Raises DatasetError where the file is not YAML, or a key is unknown, missing or of the wrong kind.
    """
    keys = _mapping(path)
    if unknown := next((key for key in keys if key not in KEYS), None):
        raise DatasetError(
            f"{path}: unknown key {quoted(unknown)}.{did_you_mean(str(unknown), KEYS)} Known keys: {', '.join(KEYS)}."
        )
    if ("images" in keys) == ("table" in keys):
        raise DatasetError(f"{path}: expected either `images` (a path template) or `table` (a CSV or JSON-lines file).")
    name = _text(path, keys, "name", path.stem)
    normal = frozenset(word.casefold() for word in _words(path, keys, "normal")) if "normal" in keys else None
    images, masks = _words(path, keys, "images"), _words(path, keys, "masks")
    labelled = "table" in keys or any("{defect" in text for text in images)
    blank: BlankMask = _choice(path, keys, "blank", get_args(BlankMask), "error" if labelled else "normal")
    splits = _splits(path, keys)
    layout: Layout
    if "table" in keys:
        table = _text(path, keys, "table", "")
        layout = Table(f"spec {path.name}", table, _columns(path, keys), normal, blank=blank, splits=splits)
    else:
        _choice(path, keys, "unpaired", ("normal",), "normal")
        layout = Folders(
            f"spec {path.name}",
            images,
            masks,
            normal,
            (),
            unpaired_normal="unpaired" in keys,
            blank=blank,
            splits=splits,
        )
    named = "table" in keys or any("{category" in text for text in images)
    threshold = _text(path, keys, "mask_threshold", "")
    if threshold and not (threshold.isascii() and threshold.isdigit() and len(threshold) < 4 and int(threshold) < 255):
        raise DatasetError(
            f"{path}: `mask_threshold` is {quoted(threshold)}, but must be a whole number from 0 to 254."
        )
    spec = DatasetSpec(
        name,
        (layout,),
        has_masks=True if "masks" in keys else None,
        category=_text(path, keys, "category", "" if named else name) or None,
        defect=_text(path, keys, "defect", "anomaly"),
        mask_threshold=int(threshold) if threshold else None,
    )
    root = _text(path, keys, "root", ".")
    try:
        return spec, (path.parent / Path(root).expanduser()).resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise DatasetError(f"{path}: `root` is {quoted(root)}, which is no path ({error}).") from error


def _mapping(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > MOST:
            raise ValueError(f"it has more than {MOST} bytes")
        keys = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # every scalar stays text: `no` is a word
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise DatasetError(f"{path} is not readable YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(keys, dict):
        raise DatasetError(f"{path} must hold keys such as `images: '{{defect}}/{{stem}}.png'`, not {quoted(keys)}.")
    return keys


def _columns(path: Path, keys: Mapping[str, Any]) -> Mapping[str, str]:
    columns = keys.get("columns") or {}
    if not isinstance(columns, Mapping):
        raise DatasetError(f"{path}: `columns` must map roles to columns, as in `columns: {{label: hemorrhage}}`.")
    if role := next((role for role in columns if role not in ROLES), None):
        raise DatasetError(
            f"{path}: `columns` has the unknown role {quoted(role)}.{did_you_mean(str(role), ROLES)} "
            f"Known roles: {', '.join(ROLES)}."
        )
    return {role: _text(path, columns, role, "") for role in columns}


def _splits(path: Path, keys: Mapping[str, Any]) -> Mapping[str, Split]:
    """Which split the words of places or tables mean."""
    if "splits" not in keys:
        return SPLIT_WORDS
    given = keys["splits"]
    if not isinstance(given, Mapping) or not given.keys() <= set(get_args(Split)):
        raise DatasetError(f"{path}: `splits` must say which words mean train and test, as in `{{test: [test, val]}}`.")
    return {word.casefold(): split for split in get_args(Split) for word in _words(path, given, split)}


def _words(path: Path, keys: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = keys.get(key, ())
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise DatasetError(f"{path}: `{key}` must be a text or a list of texts, not {quoted(value)}.")
    return tuple(words)


def _text(path: Path, keys: Mapping[str, Any], key: str, default: str) -> str:
    value = keys.get(key, default)
    if not isinstance(value, str) or "\0" in value:
        raise DatasetError(f"{path}: `{key}` must be a text, not {quoted(value)}.")
    return value


def _choice(path: Path, keys: Mapping[str, Any], key: str, allowed: tuple[str, ...], default: str) -> Any:
    value = _text(path, keys, key, default)
    if value not in allowed:
        known = "'" + "', '".join(allowed) + "'"
        raise DatasetError(f"{path}: `{key}` is {quoted(value)}, but only {known} is known.")
    return value
