"""The folder reader: files whose place says what they are, to entries of a dataset, paired by name.

It never raises for what is wrong inside a dataset; it lists `problems`, so that one check can show all of them.
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from cops_lightning.core.choices import Split
from cops_lightning.data.readers.spec import (
    ANOMALOUS_WORDS,
    GOOD,
    HELD_OUT_WORDS,
    IMAGE_WORDS,
    NORMAL_WORDS,
    SPLIT_WORDS,
    UNKNOWN_WORDS,
    BlankMask,
    DatasetSpec,
    Folders,
    looks_like_masks,
    plain_word,
)
from cops_lightning.data.readers.templates import Pattern, Template, template, unmarked
from cops_lightning.data.readers.tree import Tree

SHOWN = 8  # words or folders that a sentence spells out
_NO_DEFECTS = IMAGE_WORDS.union(SPLIT_WORDS)
_NO_CATEGORIES = _NO_DEFECTS.union(HELD_OUT_WORDS)
Key = tuple[str, ...]


class Entry(NamedTuple):
    """One image with its paths relative to the root of the dataset; a `mask` may be a folder of several."""

    category: str
    split: Split
    defect: str
    anomalous: bool
    image: str
    mask: str | None


@dataclass
class Reading:
    """What a layout makes of a folder. `has_masks` tells whether it has masks at all, `blank` what a blank one says.

    `guessed` says that no word for a defect is known, so that other things than defects may be meant.
    """

    layout: str
    entries: list[Entry] = field(default_factory=list)
    has_masks: bool = False
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unclaimed: list[str] = field(default_factory=list)
    blank: BlankMask = "error"
    guessed: bool = False

    @property
    def tested(self) -> list[Entry]:
        """The images of the test split."""
        return [entry for entry in self.entries if entry.split == "test"]

    @property
    def lacks_metrics(self) -> bool:
        """Whether images are tested, but with neither masks nor normal ones among them."""
        return not self.has_masks and bool(self.tested) and all(entry.anomalous for entry in self.tested)

    @property
    def lacks_all_masks(self) -> bool:
        """Whether anomalous images should have masks, and none has one."""
        return self.has_masks and bool(self.problems) and not any(entry.mask for entry in self.entries)


class _Found(NamedTuple):
    """An image file with the words of its place for category, split and defect, and what its mask shares with it."""

    words: tuple[str | None, str | None, str | None]
    shared: Key
    path: str


class _Files(NamedTuple):
    images: list[_Found]
    masks: dict[Key, list[str]]
    unclaimed: list[str]


_Role = tuple[str, Mapping[str, str], Pattern]


def read_folders(tree: Tree, layout: Folders, spec: DatasetSpec) -> Reading:
    """Read a layout in which places have meaning. Image and mask belong together when their fields agree."""
    reading = Reading(layout.name, blank=layout.blank)
    files = _sorted_out(tree, layout)
    reading.unclaimed = files.unclaimed
    normal = _normal_words(layout, [found.words[2] for found in files.images])
    found: dict[Key, list[Entry]] = defaultdict(list)
    meanings: dict[tuple[str | None, ...], tuple[str, Split | None, str, bool] | None] = {}
    held_out: list[tuple[Key, Entry]] = []
    for words, shared, path in files.images:
        if words not in meanings:
            meanings[words] = _meaning(words, layout, normal, spec)
        if (meaning := meanings[words]) is None:
            reading.unclaimed.append(path)
        elif meaning[1] is None:
            held_out.append((shared, Entry(meaning[0], "test", *meaning[2:], path, None)))
        else:
            found[shared].append(Entry(meaning[0], meaning[1], *meaning[2:], path, None))
    if len(spec.categories) == 1 and len({category for category, _, _ in meanings}) > 1:
        return Reading(layout.name)  # a dataset of one category does not fill several folders: this is another dataset
    _add_held_out(reading, found, held_out, files.masks)
    reading.has_masks = bool(files.masks) if spec.has_masks is None else spec.has_masks
    if not layout.masks or not reading.has_masks:
        reading.entries = [entry for entries in found.values() for entry in entries]
    elif found:
        _pair(reading, found, files.masks, layout)
    if not spec.counts and reading.entries:
        _check_labels(reading, layout, {words[2]: not m[3] for words, m in meanings.items() if m and words[2]})
    return reading


def _sorted_out(tree: Tree, layout: Folders) -> _Files:
    """Every image file by its role. Folders are matched once each, so that only file names are left to match."""
    images, unclaimed, masks = list[_Found](), list[str](), defaultdict[Key, list[str]](list)
    fields = frozenset.intersection(*(template(text).fields for text in layout.images + layout.masks))
    shared = (*sorted(fields - {"stem"}), "stem")
    roles = [("mask", text) for text in layout.masks]
    roles += [("image", text) for text in layout.images] + [("ignored", text) for text in layout.ignore]
    compiled = [(role, template(text)) for role, text in roles]
    fitting = {folder: list(_fitting(folder, compiled)) for folder, pictures in tree.pictures.items() if pictures}
    if not any(role == "image" for roles in fitting.values() for role, _, _ in roles):
        return _Files(images, masks, unclaimed)
    for folder, roles_there in fitting.items():
        prefix, pictures = f"{folder}/" if folder else "", tree.pictures[folder]
        if not roles_there:
            unclaimed += [prefix + name for name in pictures]
            continue
        stems = {name.rpartition(".")[0] for name in pictures}
        for role, values, _ in roles_there:
            if role == "masks":
                masks[_key(values, shared)].append(folder)
        for name in pictures:
            role, values = _role(name, roles_there)
            if role == "mask":
                masks[_key(values, shared)].append(prefix + name)
            elif role == "image" and not _is_mask(values, name.rpartition(".")[0], stems):
                words = values.get("category"), values.get("split"), values.get("defect")
                images.append(_Found(words, _key(values, shared), prefix + name))
            elif role in ("image", "unknown"):
                unclaimed.append(prefix + name)
    return _Files(images, masks, unclaimed)


def _fitting(folder: str, templates: Iterable[tuple[str, Template]]) -> Iterator[_Role]:
    """The roles that files in a folder may have; "masks" where the folder itself is a mask in several files."""
    for role, place in templates:
        if (match := place.folder.fullmatch(folder)) is not None:
            yield "masks" if role == "mask" and place.several else role, match.groupdict(), place.name


def _role(name: str, fitting: Iterable[_Role]) -> tuple[str, Mapping[str, str]]:
    for role, values, pattern in fitting:
        if (found := pattern.fullmatch(name)) is not None:
            merged = {**values, **found.groupdict()}
            if values.items() <= merged.items():  # a field that occurs twice has one value
                return role, merged
    return "unknown", {}


def _is_mask(values: Mapping[str, str], stem: str, stems: set[str]) -> bool:
    """Whether what a layout takes for an image looks like a mask, or its folder like one of masks or of splits."""
    if _is_no_class(values.get("category", ""), values.get("defect", ""), values.get("folder", "")):
        return True
    return stem not in ("", bare := unmarked(stem)) and bare in stems


@lru_cache(maxsize=4096)
def _is_no_class(category: str, defect: str, folder: str) -> bool:
    if any(map(looks_like_masks, (category, defect, *folder.split("/")))) or plain_word(defect) in _NO_DEFECTS:
        return True
    return plain_word(category) in _NO_CATEGORIES


def _key(values: Mapping[str, str], shared: tuple[str, ...]) -> Key:
    *folders, stem = [values[name] for name in shared]
    key = (*[folder.casefold() for folder in folders], stem)
    return key if all(map(str.isascii, key)) else tuple(unicodedata.normalize("NFC", part) for part in key)


def _normal_words(layout: Folders, words: Iterable[str | None]) -> frozenset[str]:
    """The values of {defect} that mean a normal image."""
    if layout.normal is not None:
        return layout.normal
    return frozenset({"0"}) if set(words) - {None} == {"0", "1"} else NORMAL_WORDS


def _meaning(
    words: tuple[str | None, ...], layout: Folders, normal: frozenset[str], spec: DatasetSpec
) -> tuple[str, Split | None, str, bool] | None:
    """Category, split, defect and label that the words of a place mean, or None where they are not of this dataset.

    The split is None for images that are held out for validation.
    """
    category, split, defect = words
    name, folded = spec.category_of(category), (split or "test").casefold()
    if name is None or (folded not in layout.splits and (folded not in HELD_OUT_WORDS or layout.splits != SPLIT_WORDS)):
        return None
    anomalous = defect is None or not {defect.casefold(), plain_word(defect)} & normal
    return name, layout.splits.get(folded), spec.defect_name(defect or "", anomalous), anomalous


def _add_held_out(
    reading: Reading, found: dict[Key, list[Entry]], held_out: list[tuple[Key, Entry]], masks: dict[Key, list[str]]
) -> None:
    """Images for validation are tested where there are no others, and left out, which is said, where there are."""
    tested = any(entry.split == "test" for entries in found.values() for entry in entries)
    for key, entry in held_out:
        if tested:
            masks.pop(key, None)
        else:
            found[key].append(entry)
    if held_out and tested:
        reading.notes.append(
            f"Images for validation, left out: {len(held_out)}, first {held_out[0][1].image}. A YAML spec takes them "
            "by `splits: {test: [test, val]}`."
        )


def _pair(reading: Reading, found: Mapping[Key, list[Entry]], masks: Mapping[Key, list[str]], layout: Folders) -> None:
    """Join images and masks by key, and name what does not join."""
    paired = _paired(found, masks)
    bare: list[str] = []
    for key, entries in found.items():
        paths = paired.get(key, [])
        for entry in entries:
            if entry.anomalous and paths:
                reading.entries.append(entry._replace(mask=paths[0]))
            elif entry.anomalous and layout.unpaired_normal:
                reading.entries.append(entry._replace(anomalous=False, defect=GOOD))
            else:
                reading.entries.append(entry)
                if entry.anomalous and entry.split == "test":
                    bare.append(entry.image)
        anomalous = [entry.image for entry in entries if entry.anomalous]
        if anomalous and len(paths) > 1:
            reading.problems.append(
                f"{len(paths)} masks fit the image {anomalous[0]}: {', '.join(paths)}. Keep one of them."
            )
        if len(anomalous) > 1 or len({(entry.split, entry.anomalous) for entry in entries}) < len(entries):
            reading.problems.append(
                f"{len(entries)} images have the same name up to the extension, or up to how its letters are composed, "
                "so a mask cannot be matched to one of them: "
                f"{', '.join(entry.image for entry in entries)}. Keep one of them."
            )
    if bare:
        expected = " or ".join(f"'{text}'" for text in layout.masks)
        reading.problems.append(
            f"anomalous images without a mask: {len(bare)}, first {bare[0]}. Expected it at {expected}. Restore them, "
            "or name the places of what is to be read in a YAML spec, as in `images: '{defect:good|crack}/{stem}'`."
        )
    if orphans := [path for key, paths in paired.items() if key not in found for path in paths]:
        reading.problems.append(
            f"masks without an image: {len(orphans)}, first {orphans[0]}. Restore the image or remove the mask."
        )


def _paired(found: Mapping[Key, list[Entry]], masks: Mapping[Key, list[str]]) -> Mapping[Key, list[str]]:
    """The masks by the keys of their images: of the same name, else of the same but for what marks one as a mask."""
    by_bare: dict[Key, set[Key]] | None = None
    paired: dict[Key, list[str]] = defaultdict(list)
    for key, paths in masks.items():
        own, bare = key, (*key[:-1], unmarked(key[-1]))
        if key not in found:
            own = bare
        if own not in found:
            if by_bare is None:
                by_bare = defaultdict(set)
                for image in found:
                    by_bare[(*image[:-1], unmarked(image[-1], of_image=True))].add(image)
            if len(candidates := by_bare.get(bare, set())) == 1:
                own = next(iter(candidates))
        paired[own if own in found else key] += paths
    return paired


def _check_labels(reading: Reading, layout: Folders, words: Mapping[str | None, bool]) -> None:
    """Where the folders of a set of one's own do not say which images are normal, ask; else say what was taken so.

    `words` are the values of {defect}, each with whether it was taken for normal.
    """
    shown = {
        normal: sorted(word for word, is_normal in words.items() if word and is_normal == normal)
        for normal in (True, False)
    }
    unknown = [w for w in shown[False] if {w.strip().casefold(), plain_word(w)} & UNKNOWN_WORDS]
    numbers = [w for w in shown[False] if w.isdigit() and set(words) != {"0", "1"}]
    cure = spec_of(layout)
    plain = set(map(plain_word, shown[False]))
    reading.guessed = layout.normal is None and bool(plain) and not shown[True] and not plain & ANOMALOUS_WORDS
    if layout.normal is None and (unknown or numbers):
        reading.problems.append(
            f"nothing says whether the images in '{(unknown + numbers)[0]}' are normal or anomalous. Say so by a YAML "
            f"spec: {cure}, and `normal:` with the words of {_listed(list(filter(None, words)))} that mean normal."
        )
    elif layout.normal is None and len(shown[False]) > 1 and not shown[True] and _is_mixed(reading.tested):
        reading.problems.append(
            f"none of the folders {_listed(shown[False])} is known to hold normal images, and not all of them have "
            f"masks. Say which are normal by a YAML spec: {cure}, normal: WORD; or that none is, by `normal: []`."
        )
    elif layout.normal and not shown[True] and words:
        reading.problems.append(
            f"no image is in a place called {_listed(sorted(layout.normal))}, which the spec calls normal; the places "
            f"are called {_listed(shown[False])}."
        )
    elif words and (plain - ANOMALOUS_WORDS or set(map(plain_word, shown[True])) - {GOOD}):
        taken = [
            f"{_listed(shown[normal])} for {word}"
            for normal, word in ((True, "normal"), (False, "anomalous"))
            if shown[normal]
        ]
        reading.notes.append(f"Taken: {'; '.join(taken)}.")


def _is_mixed(entries: list[Entry]) -> bool:
    """Whether some of the anomalous images have no mask, so that they may be normal."""
    return any(entry.anomalous and entry.mask is None for entry in entries)


def spec_of(layout: Folders) -> str:
    """The lines of a YAML spec that say what a layout does."""
    lines = {"images": layout.images, "masks": layout.masks}
    return ", ".join(f"{key}: [{', '.join(map(repr, texts))}]" for key, texts in lines.items() if texts)


def by_folder(paths: Iterable[str]) -> str:
    """How many of the paths are in which folder, in a line: those with most first."""
    folders = Counter(path.rpartition("/")[0] or "." for path in paths).most_common()
    more = f", and {sum(n for _, n in folders[SHOWN:])} in {len(folders) - SHOWN} more" if len(folders) > SHOWN else ""
    return ", ".join(f"{count} in {folder}" for folder, count in folders[:SHOWN]) + more


def _listed(words: list[str]) -> str:
    return ", ".join(words[:SHOWN]) + (", ..." if len(words) > SHOWN else "")
