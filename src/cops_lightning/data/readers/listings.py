"""Datasets that a file lists: CSV and JSON-lines tables, the meta.json of zero-shot repositories, and index files."""

import csv
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO, get_args

from cops_lightning.core.choices import Split
from cops_lightning.core.errors import DatasetError, quoted
from cops_lightning.data.readers.layouts import Entry, Reading
from cops_lightning.data.readers.spec import (
    ANOMALOUS_WORDS,
    NORMAL_WORDS,
    UNKNOWN_WORDS,
    DatasetSpec,
    Table,
    plain_word,
)

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
MOST_JSON = 1 << 30  # bytes of a meta.json, which is read whole
_EMPTY = frozenset({"", "nan", "none", "null"})
_NORMAL_LABELS = NORMAL_WORDS | {"0", "0.0", "false"}
_ANOMALOUS_LABELS = ANOMALOUS_WORDS | {"1", "1.0", "true"}
_PLACEHOLDER = re.compile(r"\{(\w+)(?::(0?\d{1,2}d)?)?\}")

Present = Callable[[str], bool]


def read_table(path: Path, layout: Table, spec: DatasetSpec, present: Present) -> Reading:
    """Read a CSV or JSON-lines table. `present` tells whether a path relative to the root exists.

    Raises DatasetError where the file is no such table, lacks a column, or has a value that is not understood.
    """
    reading = _read(table_rows(path, layout, spec), path, layout.name, spec, present)
    reading.blank = layout.blank
    return reading


def read_meta(path: Path, spec: DatasetSpec, present: Present) -> Reading:
    """Read a meta.json: {"train": {category: [entry]}, "test": {...}}.

    Its paths may start from the root or above it, or be absolute paths of another machine: what does not exist here is
    cut off at the front, the same for every entry. Entries without an image path are placeholders and are left out.
    """
    return _read(_meta_rows(path, spec), path, path.name, spec, present)


def on_disk(root: Path) -> Present:
    """Ask the disk whether a relative path exists below the root."""
    return lambda relative: (root / relative).is_file()


def load_json(text: str) -> Any:
    """What a JSON text holds. Raises ValueError for any text that is none, also one that nests without end."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it nests too deep") from error


def table_rows(path: Path, layout: Table, spec: DatasetSpec) -> Iterator[Entry]:
    """The rows of a table with paths as written, one at a time. Raises as `read_table` does."""
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


def _read(rows: Iterable[Entry], path: Path, layout: str, spec: DatasetSpec, present: Present) -> Reading:
    """Find the listed files, and name those that do not exist, are listed twice, or are image and mask at once."""
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
            reading.entries.append(row._replace(image=image, mask=mask))
    if placeholders:
        reading.notes.append(f"Entries of {path.name} without an image path, left out: {placeholders}.")
    masks = [entry.mask for entry in reading.entries if entry.mask]
    reading.has_masks = bool(lost_masks or masks) if spec.has_masks is None else spec.has_masks
    bare = [entry.image for entry in reading.entries if reading.has_masks and entry.anomalous and not entry.mask]
    for paths, what, advice in (
        (lost, "images that do not exist", "Give the root that its paths start from, or restore the files."),
        (twice, "images listed before", "Every image may be listed once, in one split."),
        (lost_masks, "masks that do not exist", "Restore them; a dataset without masks lists none."),
        (bare if not lost_masks else [], "anomalous images without a mask", "Expected a mask for each of them."),
        (sorted(seen.intersection(masks)), "masks that are listed as images too", "A mask is no image."),
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
            cuts = (parts[:count] for count in range(len(parts)) if self._find("/".join(parts[count:])))
            self.cut = next(cuts, None)
        if self.cut is not None and parts[: len(self.cut)] == self.cut:
            found = self._find("/".join(parts[len(self.cut) :]))
            if found is not None:
                return found
        return listed if Path(listed).is_absolute() and Path(listed).is_file() else None

    def _find(self, relative: str) -> str | None:
        """The path as the disk has it: systems differ in how they compose letters with accents."""
        forms = [relative]
        if not relative.isascii():
            forms += [unicodedata.normalize(form, relative) for form in ("NFC", "NFD")]
        return next((form for form in forms if self.present(form)), None)


class _Columns:
    """Which column of a table plays which role. Raises DatasetError where a needed column is missing."""

    def __init__(self, path: Path, names: tuple[str, ...], layout: Table) -> None:
        self.path, self.layout, self.names = path, layout, {name.strip().casefold(): name for name in names}
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

    def row(self, values: Mapping[str, Any], spec: DatasetSpec) -> Entry:
        """One row in terms of the dataset. Raises ValueError, saying what is wrong with it."""
        texts = {role: _text(values[name]) for role, name in self.named}
        words = tuple(texts.get(role, "") for role in ("category", "split", "label", "defect"))
        if words not in self.meanings:
            self.meanings[words] = self._meaning(words, spec)
        for role, pattern in self.patterns:
            texts[role] = self._filled(pattern, values)
        image, mask = texts["image"], texts.get("mask", "")
        if image.casefold() in _EMPTY:
            raise ValueError("the image path is empty. Every row must name an image.")
        return Entry(*self.meanings[words], image, None if mask.casefold() in _EMPTY else mask)

    def _meaning(self, words: tuple[str, ...], spec: DatasetSpec) -> tuple[str, Split, str, bool]:
        word, split, label, defect = ("" if word.casefold() in _EMPTY else word for word in words)
        if (category := spec.category_of(word or None)) is None:
            raise ValueError(_no_category(word, spec))
        if (meant := self.layout.splits.get(split.casefold() or "test")) is None:
            raise ValueError(
                f"the split is {quoted(split)}, but only {' and '.join(get_args(Split))} are known. Say in a YAML "
                "spec what it means, as in `splits: {test: [test, val]}`."
            )
        anomalous = self._is_anomalous(label if "label" in self.columns else defect)
        return category, meant, spec.defect_name(defect, anomalous), anomalous

    def _is_anomalous(self, word: str) -> bool:
        folded, plain = word.casefold(), plain_word(word)
        if self.layout.normal is not None:
            return not {folded, plain} & self.layout.normal
        if folded in _NORMAL_LABELS or plain in _NORMAL_LABELS:
            return False
        if folded in _ANOMALOUS_LABELS or plain in _ANOMALOUS_LABELS:
            return True
        unknown = not folded or {folded, plain} & UNKNOWN_WORDS or folded.lstrip("-+").replace(".", "").isdigit()
        if "label" not in self.columns and not unknown:
            return True
        raise ValueError(
            f"the label {quoted(word)} is not understood. Use 0 or normal and 1 or anomaly, or name the normal words "
            "in a YAML spec: `normal: [...]`."
        )

    def _filled(self, pattern: str, values: Mapping[str, Any]) -> str:
        """A path template with the values of its columns, such as `scans/{id:03d}.png`."""

        def fill(match: re.Match[str]) -> str:
            value = _text(values[self.names[match[1].casefold()]])
            if not match[2]:
                return value
            if not re.fullmatch(r"-?\d{1,40}", value):
                raise ValueError(f"{match[1]} is {quoted(value)}, but {match[0]} takes a whole number.")
            return format(int(value), match[2])

        return _PLACEHOLDER.sub(fill, pattern)

    def _require(self, name: str, role: str) -> str:
        if (found := self.names.get(name.strip().casefold())) is not None:
            return found
        columns = ", ".join(map(quoted, list(self.names.values())[:20]))
        raise DatasetError(
            f"{self.path} has no column {quoted(name)} for the {role}; it has: {columns}. "
            f"Add the column, or name another in a YAML spec: `columns: {{{role}: ...}}`."
        )


def _no_category(word: str, spec: DatasetSpec) -> str:
    return f"{quoted(word)} is no category of {spec.name}, which has: {', '.join(spec.categories)}."


def _text(value: object) -> str:
    """A value of a table as text. Raises ValueError for what is neither a text nor a number."""
    if value is None:
        return ""
    if not isinstance(value, str | int | float):
        raise ValueError(f"{quoted(value)} is no text and no number. Every value must be one of these.")
    return str(value).strip()


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a table with their line numbers, read one by one."""
    try:
        if path.exists() and not path.is_file():
            raise OSError("it is no regular file")
        with path.open(encoding="utf-8-sig", newline="") as lines:
            yield from _json_lines(path, lines) if "json" in path.suffix.lower() else _csv_lines(path, lines)
    except (OSError, UnicodeError, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read ({error}). Expected a readable table in UTF-8.") from error


def _csv_lines(path: Path, lines: TextIO) -> Iterator[tuple[int, Mapping[str, Any]]]:
    header = next(lines, "")
    delimiter = max(",;\t", key=header.count)
    names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
    if len(folded := {name.casefold() for name in names}) < len(names):
        repeated = next(name for name in names if [other.casefold() for other in names].count(name.casefold()) > 1)
        raise DatasetError(f"{path} names the column {quoted(repeated)} twice. Every column needs its own name.")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    for values in reader:
        if len(values) == len(folded):
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
            values = load_json(line)
        except ValueError as error:
            raise DatasetError(f"{path}, line {number} is not JSON ({error}). Expected an object a line.") from error
        if not isinstance(values, dict):
            raise DatasetError(f"{path}, line {number} is not an object. Expected one JSON object a line.")
        if HEADER_KEY not in values:
            yield number, values


def _meta_rows(path: Path, spec: DatasetSpec) -> Iterator[Entry]:
    expected = 'Expected {"train": {category: [{"img_path", "mask_path", "cls_name", "anomaly"}]}, "test": {...}}.'
    try:
        if path.stat().st_size > MOST_JSON:
            raise ValueError(f"it has more than {MOST_JSON} bytes")
        meta = load_json(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read as JSON ({error}). {expected}") from error
    if not isinstance(meta, dict) or not meta.keys() & set(get_args(Split)):
        raise DatasetError(f"{path} is no meta.json of the known kind. {expected}")
    for split in get_args(Split):
        classes = meta.get(split)
        if not isinstance(classes, dict | None):
            raise DatasetError(f"{path}: {split} is {quoted(classes)}. {expected}")
        for word, entries in (classes or {}).items():
            if not isinstance(entries, list):
                raise DatasetError(f"{path}: '{word}' in {split} is {quoted(entries)}. {expected}")
            for entry in entries:
                try:
                    yield _meta_row(entry, word, split, spec)
                except (ValueError, KeyError) as error:
                    reason = f"it has no {error}." if isinstance(error, KeyError) else str(error)
                    raise DatasetError(
                        f"{path}: {quoted(entry)}, an entry of '{word}' in {split}: {reason} {expected}"
                    ) from error


def _meta_row(entry: object, word: str, split: Split, spec: DatasetSpec) -> Entry:
    """One entry of a meta.json. Raises KeyError for what is missing and ValueError for what is wrong."""
    if not isinstance(entry, dict):
        raise ValueError("it is no object.")
    image, label = _text(entry["img_path"]), entry["anomaly"]
    number = str(label) if isinstance(label, str) else label
    if number not in (0, 1, "0", "1", "0.0", "1.0"):
        raise ValueError(f"anomaly is {quoted(label)}; expected 0 or 1. Leave out what is not labelled.")
    anomalous = number in (1, "1", "1.0")
    name = _text(entry.get("cls_name")) or word
    if (category := spec.category_of(name)) is None:
        raise ValueError(_no_category(name, spec))
    defect = spec.defect_name(_text(entry.get("specie_name")), anomalous)
    return Entry(category, split, defect, anomalous, image, _text(entry.get("mask_path")) or None)
