"""The layout readers: files on disk to entries of a dataset, paired by name.

A reader never raises for what is wrong inside a dataset; it lists `problems`, so that one check can show all of them.
"""

import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

from cops_lightning.core.errors import DatasetError
from cops_lightning.core.types import Split
from cops_lightning.data.spec import ANOMALOUS_WORDS, GOOD, NORMAL_WORDS, DatasetSpec, Folders, Table
from cops_lightning.data.templates import Template
from cops_lightning.data.tree import Tree

ROLES: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "image_path", "img_path", "img", "path", "filename", "file", "filepath", "image_file"),
    "mask": ("mask", "mask_path", "maskpath", "gt", "ground_truth", "mask_file"),
    "category": ("category", "cls_name", "class_name", "object", "clsname", "class", "product"),
    "split": ("split", "subset", "phase", "fold"),
    "label": ("label", "anomaly", "anomalous", "is_anomaly", "is_anomalous", "label_index", "target"),
    "defect": ("defect", "specie_name", "defect_type", "anomaly_type", "species", "defect_name"),
}
_NORMAL_LABELS = NORMAL_WORDS | {"0", "0.0", "false", "n", "f"}
_ANOMALOUS_LABELS = ANOMALOUS_WORDS | {"1", "1.0", "true", "y", "t"}


@dataclass(frozen=True)
class Entry:
    """One image with its paths relative to the root of the dataset."""

    category: str
    split: Split
    defect: str
    anomalous: bool
    image: str
    mask: str | None


@dataclass
class Reading:
    """What a layout makes of a folder. `has_masks` tells whether it has masks at all."""

    layout: str
    entries: list[Entry] = field(default_factory=list)
    has_masks: bool = False
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unclaimed: list[str] = field(default_factory=list)


def read_folders(tree: Tree, layout: Folders, spec: DatasetSpec) -> Reading:
    """Read a layout in which places have meaning. Image and mask belong together when their fields agree."""
    reading = Reading(layout.name)
    image_templates, mask_templates = _compiled(layout.images), _compiled(layout.masks)
    shared = _shared_fields(image_templates, mask_templates)
    ignored = _compiled(layout.ignore)
    found: dict[tuple[str, ...], list[Entry]] = defaultdict(list)
    masks: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for path in tree.images():
        if values := _first_match(mask_templates, path):
            masks[_key(values, shared)].append(path)
        elif values := _first_match(image_templates, path):
            if (entry := _entry(path, values, layout, spec)) is None:
                reading.unclaimed.append(path)
            else:
                found[_key(values, shared)].append(entry)
        elif not _first_match(ignored, path):
            reading.unclaimed.append(path)
    reading.has_masks = bool(masks) if spec.has_masks is None else spec.has_masks
    if not layout.masks or not reading.has_masks:
        reading.entries = [entry for entries in found.values() for entry in entries]
    elif found:
        _pair(reading, found, masks, layout)
    return reading


def read_table(tree: Tree, layout: Table, spec: DatasetSpec) -> Reading:
    """Read a dataset whose images are listed in a table that lies in its folder."""
    files = {path.casefold(): path for path in tree.files}
    present = set(tree.files)
    return read_rows(tree.root / files[layout.file.casefold()], layout, spec, tree.root, present.__contains__)


def read_rows(
    path: Path, layout: Table, spec: DatasetSpec, root: Path, present: Callable[[str], bool] | None = None
) -> Reading:
    """Read a CSV or JSON-lines table. `present` tells whether a path relative to `root` exists; default: ask the disk.

    Raises DatasetError where the file is not such a table, or where a column is missing or a label is not understood.
    """
    reading = Reading(layout.name)
    resolve = _Resolver(present or (lambda relative: (root / relative).is_file()))
    missing = _Tally()
    anomalous_without_mask = _Tally()
    known: dict[tuple[str, ...], _Columns] = {}
    for number, row in _rows(path):
        if (columns := known.get(names := tuple(row))) is None:
            columns = known[names] = _Columns(path, row, layout)
        image = columns.path("image", row, number)
        category = spec.category_of(columns.text("category", row))
        where = f"{path.name}, line {number}"
        if category is None:
            raise DatasetError(
                f"{where}: '{columns.text('category', row)}' is no category of {spec.name}, "
                f"which has: {', '.join(spec.categories)}."
            )
        defect = columns.text("defect", row)
        anomalous = _anomalous(columns.text("label", row), defect, layout, where)
        place = resolve(image)
        if place is None:
            missing.add(image)
            continue
        mask = None
        if anomalous and spec.has_masks is not False and (wanted := columns.path("mask", row, number)):
            mask = resolve(wanted)
            if mask is None:
                anomalous_without_mask.add(wanted)
        reading.entries.append(
            Entry(category, _split(columns.text("split", row), where), _defect(defect, anomalous, spec), anomalous,
                  place, mask)
        )  # fmt: skip
    if not known:
        raise DatasetError(f"{path} lists no image. Expected a header line and one line per image.")
    _finish_listing(reading, spec, path, missing, anomalous_without_mask)
    return reading


def read_meta(path: Path, spec: DatasetSpec, root: Path, present: Callable[[str], bool] | None = None) -> Reading:
    """Read the meta.json that zero-shot repositories share: {"train": {category: [entry]}, "test": ...}.

    Paths may be relative to the root or to its parent, or absolute paths of another machine: the part that does not
    exist here is cut off, the same for every entry. Entries with an empty img_path are placeholders and are left out.
    """
    reading = Reading(path.name)
    resolve = _Resolver(present or (lambda relative: (root / relative).is_file()))
    missing, without_mask, placeholders = _Tally(), _Tally(), 0
    for split, category_word, entry in _meta_entries(path):
        image = str(entry["img_path"] or "")
        if not image:
            placeholders += 1
            continue
        category = spec.category_of(str(entry.get("cls_name") or category_word))
        if category is None:
            raise DatasetError(
                f"{path}: '{category_word}' is no category of {spec.name}, which has: {', '.join(spec.categories)}."
            )
        anomalous = bool(int(entry["anomaly"]))
        place = resolve(image)
        if place is None:
            missing.add(image)
            continue
        mask, wanted = None, str(entry.get("mask_path") or "")
        if anomalous and wanted and spec.has_masks is not False:
            mask = resolve(wanted)
            if mask is None:
                without_mask.add(wanted)
        defect = _defect(str(entry.get("specie_name") or ""), anomalous, spec)
        reading.entries.append(Entry(category, split, defect, anomalous, place, mask))
    if placeholders:
        reading.notes.append(f"{path.name} holds {placeholders} entries without an image path, which were left out")
    _finish_listing(reading, spec, path, missing, without_mask)
    return reading


def _finish_listing(reading: Reading, spec: DatasetSpec, path: Path, missing: "_Tally", without_mask: "_Tally") -> None:
    """Decide whether a listed dataset has masks, and name the files that the list promises and the disk lacks."""
    found = any(entry.mask for entry in reading.entries)
    reading.has_masks = found if spec.has_masks is None else spec.has_masks
    if missing.count:
        reading.problems.append(
            f"{path.name} lists {missing.count} images that do not exist, first '{missing.first}'. "
            "Give the root that its paths start from, or restore the files."
        )
    if without_mask.count:
        reading.problems.append(
            f"{path.name} lists {without_mask.count} masks that do not exist, first '{without_mask.first}'. "
            "Restore the mask, or empty that field if the set has no masks."
        )
    elif reading.has_masks:
        bare = [entry.image for entry in reading.entries if entry.anomalous and not entry.mask]
        if bare:
            reading.problems.append(
                f"{len(bare)} anomalous images have no mask in {path.name}, first {bare[0]}. "
                "Expected a mask path for every anomalous image."
            )


class _Tally:
    """A count and its first example."""

    def __init__(self) -> None:
        self.count, self.first = 0, ""

    def add(self, example: str) -> None:
        self.first = self.first or example
        self.count += 1


class _Resolver:
    """Finds listed paths below a root, although the list was written elsewhere.

    The first path that can be found fixes how many leading components are cut off, and which; every later path that
    starts the same way is treated the same, so that two images can never take each other's place.
    """

    def __init__(self, present: Callable[[str], bool]) -> None:
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
    """Which column of a table plays which role."""

    def __init__(self, path: Path, row: Mapping[str, Any], layout: Table) -> None:
        self.path_of_table, self.names = path, {str(name).strip().casefold(): name for name in row}
        self.columns: dict[str, str] = {}
        self.patterns: dict[str, str] = {}
        for role, aliases in ROLES.items():
            wanted = layout.columns.get(role)
            if wanted is not None and "{" in wanted:
                self.patterns[role] = wanted
                for name in re.findall(r"\{(\w+)", wanted):
                    self._require(name, role)
            elif wanted is not None:
                self.columns[role] = self._require(wanted, role)
            elif column := next((self.names[name] for name in aliases if name in self.names), None):
                self.columns[role] = column
        if "image" not in self.columns and "image" not in self.patterns:
            self._require("image", "image")
        if "label" not in self.columns and "defect" not in self.columns:
            self._require("label", "label")

    def text(self, role: str, row: Mapping[str, Any]) -> str | None:
        column = self.columns.get(role)
        value = row.get(column) if column is not None else None
        return None if value is None else str(value).strip()

    def path(self, role: str, row: Mapping[str, Any], number: int) -> str:
        if (pattern := self.patterns.get(role)) is None:
            text = self.text(role, row) or ""
            text = "" if text.casefold() in {"nan", "none", "null"} else text
            if role == "image" and not text:
                raise DatasetError(f"{self.path_of_table.name}, line {number}: the image path is empty.")
            return text
        try:
            return re.sub(r"\{(\w+)(?::([^{}]*))?\}", lambda m: self._formatted(m[1], m[2] or "", row), pattern)
        except ValueError as error:
            raise DatasetError(
                f"{self.path_of_table.name}, line {number}: '{pattern}' cannot be filled in: {error}."
            ) from error

    def _formatted(self, name: str, form: str, row: Mapping[str, Any]) -> str:
        value = str(row[self.names[name.casefold()]]).strip()
        return format(int(value), form) if form.endswith("d") else format(value, form)

    def _require(self, name: str, role: str) -> str:
        if (found := self.names.get(name.strip().casefold())) is not None:
            return found
        raise DatasetError(
            f"{self.path_of_table} has no column '{name}' for the {role}; its columns are: "
            f"{', '.join(repr(str(column).strip()) for column in self.names.values())}. "
            f"Name the column in a YAML spec: `columns: {{{role}: ...}}`."
        )


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a CSV or JSON-lines file with their line numbers, read one by one."""
    with _opened(path) as lines:
        if path.suffix.lower() in {".jsonl", ".ndjson"}:
            yield from _json_rows(path, lines)
            return
        header = next(lines, "")
        delimiter = max(",;\t", key=header.count)
        names = [name.strip() for name in next(csv.reader([header], delimiter=delimiter), [])]
        repeated = [name for name in names if names.count(name) > 1]
        if repeated:
            raise DatasetError(f"{path} names the column '{repeated[0]}' twice. Every column needs its own name.")
        reader = csv.reader(lines, delimiter=delimiter)
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(names):
                raise DatasetError(
                    f"{path}, line {reader.line_num + 1}: {len(values)} values, but the header names {len(names)} "
                    "columns. Quote values that contain the delimiter."
                )
            yield reader.line_num + 1, dict(zip(names, values, strict=True))


def _json_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DatasetError(
                f"{path}, line {number}: not JSON ({error.msg}). Expected one object per line."
            ) from error
        if not isinstance(row, dict):
            raise DatasetError(f"{path}, line {number}: expected one JSON object per line, got {type(row).__name__}.")
        yield number, row


def _opened(path: Path) -> io.TextIOBase:
    try:
        return path.open(encoding="utf-8-sig", newline="" if path.suffix.lower() == ".csv" else None)
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read ({error.strerror or error}). Check the path and its permissions."
        ) from error


def _meta_entries(path: Path) -> Iterator[tuple[Split, str, Mapping[str, Any]]]:
    with _opened(path) as file:
        try:
            meta = json.load(file)
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise DatasetError(
                f"{path} is not valid JSON ({error}). Write it again with the script that made it."
            ) from error
    shape = '{"train": {category: [{"img_path", "mask_path", "cls_name", "anomaly"}]}, "test": ...}'
    if not isinstance(meta, dict) or not any(split in meta for split in get_args(Split)):
        raise DatasetError(f"{path} is not a meta.json of the known kind. Expected {shape}.")
    for split in get_args(Split):
        for category, entries in (meta.get(split) or {}).items():
            for entry in entries:
                if not isinstance(entry, dict) or not {"img_path", "anomaly"} <= entry.keys():
                    raise DatasetError(
                        f"{path}: an entry of {split}/{category} lacks img_path or anomaly. Expected {shape}."
                    )
                yield split, category, entry


def _anomalous(label: str | None, defect: str | None, layout: Table, where: str) -> bool:
    word = (label if label is not None else defect or "").casefold()
    if layout.normal:
        return word not in layout.normal
    if word in _NORMAL_LABELS:
        return False
    if word in _ANOMALOUS_LABELS or (label is None and word):
        return True
    raise DatasetError(
        f"{where}: the label '{label}' is not understood. Use 0 or normal, 1 or anomaly, "
        "or say in a YAML spec which words are normal: `normal: [...]`."
    )


def _split(word: str | None, where: str) -> Split:
    folded = (word or "test").casefold()
    if folded == "train":
        return "train"
    if folded == "test":
        return "test"
    raise DatasetError(f"{where}: the split is '{word}', but only train and test are known.")


def _defect(word: str | None, anomalous: bool, spec: DatasetSpec) -> str:
    if not anomalous:
        return GOOD
    return word if word and word.casefold() not in NORMAL_WORDS | {"0", "1"} else spec.defect


@lru_cache(maxsize=256)
def _compiled(texts: tuple[str, ...]) -> tuple[Template, ...]:
    return tuple(map(Template, texts))


def _first_match(templates: Iterable[Template], path: str) -> Mapping[str, str] | None:
    for template in templates:
        if (values := template.match(path)) is not None:
            return values
    return None


def _shared_fields(images: tuple[Template, ...], masks: tuple[Template, ...]) -> tuple[str, ...]:
    """The fields that every image place and every mask place names, by which they are paired."""
    return tuple(sorted(frozenset.intersection(*(template.fields for template in images + masks))))


def _key(values: Mapping[str, str], shared: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(values[name] if name == "stem" else values[name].casefold() for name in shared)


def _entry(path: str, values: Mapping[str, str], layout: Folders, spec: DatasetSpec) -> Entry | None:
    category, split = spec.category_of(values.get("category")), values.get("split", "test").casefold()
    if category is None or split not in get_args(Split):
        return None
    word = values.get("defect", spec.defect)
    anomalous = "defect" not in values or word.casefold() not in layout.normal
    return Entry(category, "train" if split == "train" else "test", word if anomalous else GOOD, anomalous, path, None)


def _pair(
    reading: Reading,
    found: Mapping[tuple[str, ...], list[Entry]],
    masks: Mapping[tuple[str, ...], list[str]],
    layout: Folders,
) -> None:
    """Join images and masks by key, and name what does not join."""
    bare: list[str] = []
    expected = " or ".join(f"'{text}'" for text in layout.masks)
    for key, entries in found.items():
        anomalous = [entry for entry in entries if entry.anomalous]
        paths = masks.get(key, [])
        if anomalous and not paths:
            bare += [entry.image for entry in anomalous]
        if len(paths) > 1 and anomalous:
            reading.problems.append(
                f"{len(paths)} masks fit the image {anomalous[0].image}: {', '.join(paths)}. Keep one of them."
            )
        if len(anomalous) > 1 or len({(entry.split, entry.anomalous) for entry in entries}) < len(entries):
            reading.problems.append(
                f"{len(entries)} images have the same name up to the extension, so no mask belongs to one of them: "
                f"{', '.join(entry.image for entry in entries)}. Keep one of them."
            )
        for entry in entries:
            mask = paths[0] if paths and entry.anomalous else None
            reading.entries.append(Entry(entry.category, entry.split, entry.defect, entry.anomalous, entry.image, mask))
    if bare:
        reading.problems.append(
            f"{len(bare)} anomalous images have no mask, first {bare[0]}. Expected one at {expected}."
        )
    orphans = [path for key, paths in masks.items() if key not in found for path in paths]
    if orphans:
        reading.problems.append(
            f"{len(orphans)} masks have no image, first {orphans[0]}. Restore the image or remove the mask."
        )
