"""The folder reader: files whose place says what they are, to entries of a dataset, paired by name.

It never raises for what is wrong inside a dataset; it lists `problems`, so that one check can show all of them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import get_args

from cops_lightning.core.types import Split
from cops_lightning.data.spec import GOOD, DatasetSpec, Folders
from cops_lightning.data.templates import Template
from cops_lightning.data.tree import Tree


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
    folders: set[str] = set()
    for path in tree.images():
        if values := _first_match(mask_templates, path):
            masks[_key(values, shared)].append(path)
        elif values := _first_match(image_templates, path):
            if (entry := _entry(path, values, layout, spec)) is None:
                reading.unclaimed.append(path)
            else:
                found[_key(values, shared)].append(entry)
                folders.add(values.get("category", ""))
        elif not _first_match(ignored, path):
            reading.unclaimed.append(path)
    if len(spec.categories) == 1 and len(folders) > 1:
        return reading  # a dataset of one category cannot fill several category folders: this is another dataset
    reading.has_masks = bool(masks) if spec.has_masks is None else spec.has_masks
    if not layout.masks or not reading.has_masks:
        reading.entries = [entry for entries in found.values() for entry in entries]
    elif found:
        _pair(reading, found, masks, layout)
    return reading


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
    word = values.get("defect", "")
    anomalous = "defect" not in values or word.casefold() not in layout.normal
    name = spec.defect_name(word, anomalous)
    return Entry(category, "train" if split == "train" else "test", name, anomalous, path, None)


def _pair(
    reading: Reading,
    found: Mapping[tuple[str, ...], list[Entry]],
    masks: Mapping[tuple[str, ...], list[str]],
    layout: Folders,
) -> None:
    """Join images and masks by key, and name what does not join."""
    bare: list[str] = []
    for key, entries in found.items():
        paths = masks.get(key, [])
        for entry in entries:
            if not entry.anomalous or paths:
                reading.entries.append(replace(entry, mask=paths[0]) if entry.anomalous else entry)
            elif layout.unpaired_normal:
                reading.entries.append(replace(entry, anomalous=False, defect=GOOD))
            else:
                reading.entries.append(entry)
                bare.append(entry.image)
        anomalous = [entry.image for entry in entries if entry.anomalous]
        if anomalous and len(paths) > 1:
            reading.problems.append(
                f"{len(paths)} masks fit the image {anomalous[0]}: {', '.join(paths)}. Keep one of them."
            )
        if len(anomalous) > 1 or len({(entry.split, entry.anomalous) for entry in entries}) < len(entries):
            reading.problems.append(
                f"{len(entries)} images have the same name up to the extension, so a mask cannot be told to belong to "
                f"one of them: {', '.join(entry.image for entry in entries)}. Keep one of them."
            )
    if bare:
        expected = " or ".join(f"'{text}'" for text in layout.masks)
        reading.problems.append(
            f"{len(bare)} anomalous images have no mask, first {bare[0]}. Expected it at {expected}. Restore the masks."
        )
    if orphans := [path for key, paths in masks.items() if key not in found for path in paths]:
        reading.problems.append(
            f"{len(orphans)} masks have no image, first {orphans[0]}. Restore the image or remove the mask."
        )
