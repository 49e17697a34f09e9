"""A dataset of one's own, described by a few lines of YAML."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cops_lightning.core.errors import DatasetError
from cops_lightning.core.near_miss import did_you_mean
from cops_lightning.data.readers.listings import ROLES
from cops_lightning.data.readers.spec import NORMAL_WORDS, DatasetSpec, Folders, Layout, Table

KEYS = (
    "name", "root", "images", "masks", "unpaired", "table", "columns", "normal", "category", "defect", "mask_threshold"
)  # fmt: skip


def read_spec_file(path: Path) -> tuple[DatasetSpec, Path]:
    """The dataset that a YAML file describes, and its root. Keys:

    - `name`: default, the name of the file. `root`: relative to the file; default, its folder.
    - `images`, `masks`: path templates, one or a list, such as `MT_{defect}/Imgs/{stem}.jpg`; or
    - `table`, `columns`: a CSV or JSON-lines file below the root, and the columns that play a role in it.
    - `unpaired`: `normal`, if an image without a mask is normal rather than an error.
    - `normal`: the words, one or a list, that mean a normal image: values of {defect}, or labels of the table.
    - `category`: the one category of the set; default, {category} of the template, else the name.
    - `defect`: what the defect is called where nothing says it. `mask_threshold`: default 127.

    Raises DatasetError where the file is not YAML, or a key is unknown, missing or of the wrong kind.
    """
    keys = _mapping(path)
    if unknown := next((key for key in keys if key not in KEYS), None):
        raise DatasetError(
            f"{path}: unknown key '{unknown}'.{did_you_mean(str(unknown), KEYS)} Known keys: {', '.join(KEYS)}."
        )
    if ("images" in keys) == ("table" in keys):
        raise DatasetError(f"{path}: expected either `images` (a path template) or `table` (a CSV or JSON-lines file).")
    name = str(keys.get("name", path.stem))
    normal = frozenset(word.casefold() for word in _words(path, keys, "normal"))
    layout: Layout
    if "table" in keys:
        columns = keys.get("columns") or {}
        if not isinstance(columns, Mapping):
            raise DatasetError(f"{path}: `columns` must map roles to columns, as in `columns: {{label: hemorrhage}}`.")
        if role := next((role for role in columns if role not in ROLES), None):
            raise DatasetError(
                f"{path}: `columns` has the unknown role '{role}'.{did_you_mean(str(role), ROLES)} "
                f"Known roles: {', '.join(ROLES)}."
            )
        layout = Table(f"spec {path.name}", str(keys["table"]), {str(k): str(v) for k, v in columns.items()}, normal)
    else:
        images, masks = _words(path, keys, "images"), _words(path, keys, "masks")
        if (unpaired := keys.get("unpaired", "normal")) != "normal":
            raise DatasetError(f"{path}: `unpaired` is {unpaired!r}, but only 'normal' is known.")
        layout = Folders(f"spec {path.name}", images, masks, normal or NORMAL_WORDS, unpaired_normal="unpaired" in keys)
    category = keys.get("category", name if not any("{category" in text for text in _texts(layout)) else None)
    threshold = str(keys.get("mask_threshold", "127"))
    if not threshold.isdigit() or int(threshold) > 254:
        raise DatasetError(f"{path}: `mask_threshold` is {threshold}, but must be a whole number from 0 to 254.")
    spec = DatasetSpec(
        name,
        (layout,),
        has_masks=True if "masks" in keys else None,
        category=None if category is None else str(category),
        defect=str(keys.get("defect", "anomaly")),
        mask_threshold=int(threshold),
    )
    root = (path.parent / Path(str(keys.get("root", "."))).expanduser()).resolve()
    return spec, root


def _texts(layout: Layout) -> tuple[str, ...]:
    return layout.images if isinstance(layout, Folders) else ("{category}",)


def _mapping(path: Path) -> Mapping[str, Any]:
    try:
        keys = yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # every scalar stays text: `no` is a word
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DatasetError(f"{path} is not readable YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(keys, dict):
        raise DatasetError(f"{path} must hold keys such as `images: '{{defect}}/{{stem}}.png'`, not {keys!r}.")
    return keys


def _words(path: Path, keys: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = keys.get(key, ())
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise DatasetError(f"{path}: `{key}` must be a text or a list of texts, not {value!r}.")
    return tuple(words)
