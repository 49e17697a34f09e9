"""The folder reader: files whose place says what they are, to entries of a dataset, paired by name.

It never raises for what is wrong inside a dataset; it lists `problems`, so that one check can show all of them.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, get_args

from cops_lightning.core.types import Split
from cops_lightning.data.readers.spec import GOOD, DatasetSpec, Folders
from cops_lightning.data.readers.templates import Pattern, Template
from cops_lightning.data.readers.tree import Tree, image_names

Key = tuple[str, ...]


class Entry(NamedTuple):
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

    @property
    def lacks_all_masks(self) -> bool:
        """Whether anomalous images should have masks, and none has one."""
        return self.has_masks and bool(self.problems) and not any(entry.mask for entry in self.entries)


def read_folders(tree: Tree, layout: Folders, spec: DatasetSpec) -> Reading:
    """Read a layout in which places have meaning. Image and mask belong together when their fields agree."""
    reading = Reading(layout.name)
    images: list[tuple[Mapping[str, str], str]] = []
    masks: dict[Key, list[str]] = defaultdict(list)
    shared = _shared_fields(layout)
    for role, values, path in _placed(tree, layout):
        if role == "mask":
            masks[_key(values, shared)].append(path)
        elif role == "image":
            images.append((values, path))
        elif role == "unknown":
            reading.unclaimed.append(path)
    found: dict[Key, list[Entry]] = defaultdict(list)
    meanings: dict[tuple[str | None, ...], tuple[str, Split, str, bool] | None] = {}
    for values, path in images:
        words = values.get("category"), values.get("split"), values.get("defect")
        if words not in meanings:
            meanings[words] = _meaning(words, layout, spec)
        if (meaning := meanings[words]) is None:
            reading.unclaimed.append(path)
        else:
            found[_key(values, shared)].append(Entry(*meaning, path, None))
    if len(spec.categories) == 1 and len({category for category, _, _ in meanings}) > 1:
        return reading  # a dataset of one category does not fill several category folders: this is another dataset
    reading.has_masks = bool(masks) if spec.has_masks is None else spec.has_masks
    if not layout.masks or not reading.has_masks:
        reading.entries = [entry for entries in found.values() for entry in entries]
    elif found:
        _pair(reading, found, masks, layout)
    return reading


def _placed(tree: Tree, layout: Folders) -> Iterator[tuple[str, Mapping[str, str], str]]:
    """Every image file with its role (mask, image, ignored or unknown) and the values of the fields of its place.

    Folders are matched once each, so that only file names are left to match for every file.
    """
    templates = [("mask", _compiled(text)) for text in layout.masks]
    templates += [("image", _compiled(text)) for text in layout.images]
    templates += [("ignored", _compiled(text)) for text in layout.ignore]
    for folder, names in tree.folders.items():
        fitting: list[tuple[str, Mapping[str, str], Pattern]] = []
        for role, template in templates:
            if (match := template.folder.fullmatch(folder)) is not None:
                fitting.append((role, match.groupdict(), template.name))
        prefix = f"{folder}/" if folder else ""
        for name in image_names(names):
            for role, values, pattern in fitting:
                if (found := pattern.fullmatch(name)) is not None:
                    merged = {**values, **found.groupdict()}
                    if values.items() <= merged.items():  # a field that occurs twice has one value
                        yield role, merged, prefix + name
                        break
            else:
                yield "unknown", {}, prefix + name


@lru_cache(maxsize=512)
def _compiled(text: str) -> Template:
    return Template(text)


def _shared_fields(layout: Folders) -> tuple[str, ...]:
    """The fields that every image place and every mask place names, by which they are paired; the stem comes last."""
    fields = frozenset.intersection(*(_compiled(text).fields for text in layout.images + layout.masks))
    return (*sorted(fields - {"stem"}), "stem")


def _key(values: Mapping[str, str], shared: tuple[str, ...]) -> Key:
    *folders, stem = [values[name] for name in shared]
    return (*[folder.casefold() for folder in folders], stem)


def _meaning(words: tuple[str | None, ...], layout: Folders, spec: DatasetSpec) -> tuple[str, Split, str, bool] | None:
    """Category, split, defect and label that the words of a place mean, or None where they are not of this dataset."""
    category, split, defect = words
    name, split = spec.category_of(category), (split or "test").casefold()
    if name is None or split not in get_args(Split):
        return None
    anomalous = defect is None or defect.casefold() not in layout.normal
    return name, "train" if split == "train" else "test", spec.defect_name(defect or "", anomalous), anomalous


def _pair(reading: Reading, found: Mapping[Key, list[Entry]], masks: Mapping[Key, list[str]], layout: Folders) -> None:
    """Join images and masks by key, and name what does not join."""
    bare: list[str] = []
    for key, entries in found.items():
        paths = masks.get(key, [])
        for entry in entries:
            if entry.anomalous and paths:
                reading.entries.append(entry._replace(mask=paths[0]))
            elif entry.anomalous and layout.unpaired_normal:
                reading.entries.append(entry._replace(anomalous=False, defect=GOOD))
            else:
                reading.entries.append(entry)
                if entry.anomalous:
                    bare.append(entry.image)
        anomalous = [entry.image for entry in entries if entry.anomalous]
        if anomalous and len(paths) > 1:
            reading.problems.append(
                f"{len(paths)} masks fit the image {anomalous[0]}: {', '.join(paths)}. Keep one of them."
            )
        if len(anomalous) > 1 or len({(entry.split, entry.anomalous) for entry in entries}) < len(entries):
            reading.problems.append(
                f"{len(entries)} images have the same name up to the extension, so a mask cannot be matched to "
                f"one of them: {', '.join(entry.image for entry in entries)}. Keep one of them."
            )
    if bare:
        expected = " or ".join(f"'{text}'" for text in layout.masks)
        reading.problems.append(
            f"anomalous images without a mask: {len(bare)}, first {bare[0]}. Expected it at {expected}. Restore it."
        )
    if orphans := [path for key, paths in masks.items() if key not in found for path in paths]:
        reading.problems.append(
            f"masks without an image: {len(orphans)}, first {orphans[0]}. Restore the image or remove the mask."
        )
