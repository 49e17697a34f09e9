"""Datasets that a file lists: CSV and JSON-lines tables, the meta.json of zero-shot repositories, and index files."""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO, get_args

from cops_lightning.core.errors import DatasetError
from cops_lightning.core.types import Split
from cops_lightning.data.readers.layouts import Entry, Reading
from cops_lightning.data.readers.spec import ANOMALOUS_WORDS, NORMAL_WORDS, DatasetSpec, Table

TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson"})
HEADER_KEY = "cops_index"  # in the first line of an index file, which is not a row
ROLES: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "image_path", "img_path", "img", "path", "filename", "file", "filepath"),
    "mask": ("mask", "mask_path", "maskpath", "gt", "ground_truth"),
    "category": ("category", "cls_name", "class_name", "object", "clsname", "class", "product"),
    "split": ("split", "subset", "phase"),
    "label": ("label", "anomaly", "anomalous", "is_anomaly", "is_anomalous", "label_index"),
    "defect": ("defect", "specie_name", "defect_type", "anomaly_type", "species"),
}
_EMPTY = frozenset({"", "nan", "none", "null"})
_NORMAL_LABELS = NORMAL_WORDS | {"0", "0.0", "false"}
_ANOMALOUS_LABELS = ANOMALOUS_WORDS | {"1", "1.0", "true"}
_PLACEHOLDER = re.compile(r"\{(\w+)(?::([^{}]*))?\}")

Present = Callable[[str], bool]


class Row(NamedTuple):
    """One image as its list names it: paths as written, an empty `image` in a placeholder, an empty `mask` for none."""

    image: str
    mask: str
    category: str
    split: Split
    defect: str
    anomalous: bool


def read_table(path: Path, layout: Table, spec: DatasetSpec, present: Present) -> Reading:
    """Read a CSV or JSON-lines table. `present` tells whether a path relative to the root exists.

    Raises DatasetError where the file is no such table, lacks a column, or has a value that is not understood.
    """
    return _read(table_rows(path, layout, spec), path, layout.name, spec, present)


def read_meta(path: Path, spec: DatasetSpec, present: Present) -> Reading:
    """Read a meta.json: {"train": {category: [entry]}, "test": {...}}.

    Its paths may start from the root or above it, or be absolute paths of another machine: what does not exist here is
    cut off at the front, the same for every entry. Entries without an image path are placeholders and are left out.
    """
    return _read(_meta_rows(path, spec), path, path.name, spec, present)


def on_disk(root: Path) -> Present:
    """Ask the disk whether a relative path exists below the root."""
    return lambda relative: (root / relative).is_file()


def table_rows(path: Path, layout: Table, spec: DatasetSpec) -> Iterator[Row]:
    """The rows of a table, one at a time. Raises as `read_table` does."""
    known: dict[tuple[str, ...], _Columns] = {}
    for number, values in _lines(path):
        if (columns := known.get(names := tuple(values))) is None:
            columns = known[names] = _Columns(path, names, layout)
        try:
            yield columns.row(values, spec)
        except ValueError as error:
            raise DatasetError(f"{path}, line {number}: {error}") from error
    if not known:
        raise DatasetError(f"{path} lists no image. Expected a line of column names and one line per image.")


def _read(rows: Iterable[Row], path: Path, layout: str, spec: DatasetSpec, present: Present) -> Reading:
    """Find the listed files, and name those that do not exist or are listed twice."""
    reading, resolve, seen = Reading(layout), _Resolver(present), set[str]()
    placeholders = 0
    lost: list[str] = []
    lost_masks: list[str] = []
    twice: list[str] = []
    for row in rows:
        if not row.image:
            placeholders += 1
        elif (image := resolve(row.image)) is None:
            lost.append(row.image)
        elif image in seen:
            twice.append(image)
        else:
            seen.add(image)
            wanted = row.mask if row.anomalous and spec.has_masks is not False else ""
            mask = resolve(wanted) if wanted else None
            if wanted and mask is None:
                lost_masks.append(wanted)
            reading.entries.append(Entry(row.category, row.split, row.defect, row.anomalous, image, mask))
    if placeholders:
        reading.notes.append(f"Entries of {path.name} without an image path, left out: {placeholders}.")
    listed_masks = bool(lost_masks) or any(entry.mask for entry in reading.entries)
    reading.has_masks = listed_masks if spec.has_masks is None else spec.has_masks
    bare = [entry.image for entry in reading.entries if reading.has_masks and entry.anomalous and not entry.mask]
    for paths, what, advice in (
        (lost, "images that do not exist", "Give the root that its paths start from, or restore the files."),
        (twice, "images listed before", "Every image may be listed once, in one split."),
        (lost_masks, "masks that do not exist", "Restore them; a dataset without masks lists none."),
        (bare if not lost_masks else [], "anomalous images without a mask", "Expected a mask for each of them."),
    ):
        if paths:
            reading.problems.append(f"{what} in {path.name}: {len(paths)}, first {paths[0]}. {advice}")
    return reading


class _Resolver:
    """Finds listed paths below a root, although the list may have been written elsewhere.

    The first path that is found fixes how many components are cut off at the front, and which; others are cut only if
    they start the same way, so two images can never take each other's place.
    """

    def __init__(self, present: Present) -> None:
        self.present = present
        self.cut: tuple[str, ...] | None = None

    def __call__(self, listed: str) -> str | None:
        """The path relative to the root, or an absolute one outside it, or None where no such file exists."""
        parts = tuple(part for part in listed.replace("\\", "/").split("/") if part not in ("", "."))
        if self.cut is None:
            cuts = (parts[:count] for count in range(len(parts)) if self.present("/".join(parts[count:])))
            self.cut = next(cuts, None)
        if self.cut is not None and parts[: len(self.cut)] == self.cut:
            relative = "/".join(parts[len(self.cut) :])
            if self.present(relative):
                return relative
        return listed if Path(listed).is_absolute() and Path(listed).is_file() else None


class _Columns:
    """Which column of a table plays which role. Raises DatasetError where a needed column is missing."""

    def __init__(self, path: Path, names: tuple[str, ...], layout: Table) -> None:
        self.path, self.names, self.normal = path, {name.strip().casefold(): name for name in names}, layout.normal
        self.columns: dict[str, str] = {}
        self.patterns: list[tuple[str, str]] = []
        self.meanings: dict[tuple[str, ...], tuple[str, Split, str, bool]] = {}
        for role, wanted in layout.columns.items():
            for name in [match[1] for match in _PLACEHOLDER.finditer(wanted)] or [wanted]:
                self.columns[role] = self._require(name, role)
            if "{" in wanted:
                self.patterns.append((role, wanted))
        for role, usual in ROLES.items():
            if role not in self.columns and (found := next((n for n in usual if n in self.names), None)) is not None:
                self.columns[role] = self.names[found]
        if "image" not in self.columns:
            self._require("image", "image")
        if "label" not in self.columns and "defect" not in self.columns:
            self._require("label", "label")
        self.named = [(role, name) for role, name in self.columns.items() if role not in dict(self.patterns)]

    def row(self, values: Mapping[str, Any], spec: DatasetSpec) -> Row:
        """One row in terms of the dataset. Raises ValueError, saying what is wrong with it."""
        texts = {role: "" if (value := values[name]) is None else str(value).strip() for role, name in self.named}
        words = tuple(texts.get(role, "") for role in ("category", "split", "label", "defect"))
        if words not in self.meanings:
            self.meanings[words] = self._meaning(words, spec)
        for role, pattern in self.patterns:
            texts[role] = self._filled(pattern, values)
        image, mask = texts["image"], texts.get("mask", "")
        if image.casefold() in _EMPTY:
            raise ValueError("the image path is empty. Every row must name an image.")
        return Row(image, "" if mask.casefold() in _EMPTY else mask, *self.meanings[words])

    def _meaning(self, words: tuple[str, ...], spec: DatasetSpec) -> tuple[str, Split, str, bool]:
        word, split, label, defect = ("" if word.casefold() in _EMPTY else word for word in words)
        if (category := spec.category_of(word or None)) is None:
            raise ValueError(f"'{word}' is no category of {spec.name}, which has: {', '.join(spec.categories)}.")
        if (folded := split.casefold() or "test") not in get_args(Split):
            raise ValueError(f"the split is '{split}', but only train and test are known.")
        anomalous = self._is_anomalous(label if "label" in self.columns else defect)
        return category, "train" if folded == "train" else "test", spec.defect_name(defect, anomalous), anomalous

    def _is_anomalous(self, word: str) -> bool:
        folded = word.casefold()
        if self.normal:
            return folded not in self.normal
        if folded in _NORMAL_LABELS:
            return False
        if folded in _ANOMALOUS_LABELS or (folded and "label" not in self.columns):
            return True
        raise ValueError(
            f"the label '{word}' is not understood. Use 0 or normal and 1 or anomaly, or name the normal words in a "
            "YAML spec: `normal: [...]`."
        )

    def _filled(self, pattern: str, values: Mapping[str, Any]) -> str:
        """A path template with the values of its columns, such as `scans/{id:03d}.png`."""

        def fill(match: re.Match[str]) -> str:
            value, form = str(values[self.names[match[1].casefold()]]).strip(), match[2] or ""
            return format(int(value), form) if form.endswith("d") else format(value, form)

        return _PLACEHOLDER.sub(fill, pattern)

    def _require(self, name: str, role: str) -> str:
        if (found := self.names.get(name.strip().casefold())) is not None:
            return found
        raise DatasetError(
            f"{self.path} has no column '{name}' for the {role}; it has: {', '.join(map(repr, self.names.values()))}. "
            f"Add the column, or name another in a YAML spec: `columns: {{{role}: ...}}`."
        )


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a table with their line numbers, read one by one."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            yield from _json_lines(path, lines) if "json" in path.suffix.lower() else _csv_lines(path, lines)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read ({error}). Expected a readable table in UTF-8.") from error


def _csv_lines(path: Path, lines: TextIO) -> Iterator[tuple[int, Mapping[str, Any]]]:
    header = next(lines, "")
    delimiter = max(",;\t", key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise DatasetError(f"{path} names the column '{repeated[0]}' twice. Every column needs its own name.")
    reader = csv.reader(lines, delimiter=delimiter)
    for values in reader:
        if len(values) == len(names):
            yield reader.line_num + 1, dict(zip(names, values, strict=True))
        elif any(value.strip() for value in values):
            raise DatasetError(
                f"{path}, line {reader.line_num + 1}: {len(values)} values for {len(names)} columns. "
                f"Put a value that contains '{delimiter}' in quotes."
            )


def _json_lines(path: Path, lines: TextIO) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise DatasetError(
                f"{path}, line {number} is not JSON ({error.msg}). Expected an object a line."
            ) from error
        if not isinstance(values, dict):
            raise DatasetError(f"{path}, line {number} is not an object. Expected one JSON object a line.")
        if HEADER_KEY not in values:
            yield number, values


def _meta_rows(path: Path, spec: DatasetSpec) -> Iterator[Row]:
    expected = 'Expected {"train": {category: [{"img_path", "mask_path", "cls_name", "anomaly"}]}, "test": {...}}.'
    try:
        meta = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read as JSON ({error}). {expected}") from error
    if not isinstance(meta, dict) or not meta.keys() & set(get_args(Split)):
        raise DatasetError(f"{path} is no meta.json of the known kind. {expected}")
    for split in get_args(Split):
        for word, entries in (meta.get(split) or {}).items():
            for entry in entries:
                try:
                    image, anomalous = str(entry["img_path"] or ""), bool(int(entry["anomaly"]))
                except (KeyError, TypeError, ValueError) as error:
                    raise DatasetError(
                        f"{path}: an entry of '{word}' in {split} has no img_path or anomaly: {entry!r}. {expected}"
                    ) from error
                name = str(entry.get("cls_name") or word)
                if (category := spec.category_of(name)) is None:
                    raise DatasetError(
                        f"{path}: '{name}' is no category of {spec.name}, which has: {', '.join(spec.categories)}."
                    )
                defect = spec.defect_name(str(entry.get("specie_name") or ""), anomalous)
                yield Row(image, str(entry.get("mask_path") or ""), category, split, defect, anomalous)
