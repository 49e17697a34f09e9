"""Whatever a folder or a file that describes a dataset holds: the right content or a sentence, and an end."""

import json
import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from cops_lightning.core.errors import DatasetError
from cops_lightning.data.readers.index_file import write_index
from cops_lightning.data.readers.masks import require_marked
from cops_lightning.data.readers.resolve import load_index
from cops_lightning.data.readers.spec import INDEX_NAME
from data.conftest import MakeTree, write_image

PLACES = ["bolt/test/good/0.png", "bolt/test/crack/0.png", "bolt/ground_truth/crack/0_mask.png"]
ENTRY = {"img_path": PLACES[0], "mask_path": "", "cls_name": "bolt", "specie_name": "", "anomaly": 0}
BROKEN = {**ENTRY, "img_path": PLACES[1], "mask_path": PLACES[2], "specie_name": "crack", "anomaly": 1}


@pytest.fixture
def root(make_tree: MakeTree) -> Path:
    return make_tree(*PLACES)


def written(root: Path, name: str, text: str | bytes) -> Path:
    path = root / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def sentence_of(path: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        load_index(path)
    return str(caught.value)


# ---- files that once ended in a traceback


@pytest.mark.parametrize(
    "text",
    [
        '{"test": [1], "train": {}}',
        '{"test": {"a": null}, "train": {}}',
        '{"test": {"a": [1]}, "train": {}}',
        '{"test": {"a": [{"img_path": {}, "anomaly": 0}]}}',
        json.dumps({"test": {"bolt": [ENTRY | {"anomaly": float("inf")}]}}),
        "[" * 100_000,
        "1" * 10_000,
        '{"test": {"a": [{"img_path": "a\\u0000b", "anomaly": 0}]}}',
        '{"test": {"\\ud800": [{"img_path": "bolt/test/good/0.png", "anomaly": 0}]}}',
    ],
)
def test_a_meta_json_of_other_kinds_of_values_is_refused_in_a_sentence(root: Path, text: str):
    path = written(root, "meta.json", text)
    message = sentence_of(path)
    assert message.startswith((str(path), f"{root.name} in {root}"))
    assert len(message) < 5000


@pytest.mark.parametrize("key", ["name", "layout", "root", "has_masks", "mask_threshold", "fingerprint", "images"])
@pytest.mark.parametrize("value", [5.5, None, [], {}, "5"])
def test_an_index_file_with_a_header_of_other_types_is_refused(root: Path, key: str, value: object):
    path = root / INDEX_NAME
    write_index(require_marked(load_index(root)), path)
    head, *rows = path.read_text().splitlines()
    if (header := json.loads(head))[key] == value or (key == "mask_threshold" and value is None):
        return
    if isinstance(header[key], str) and isinstance(value, str):
        return
    written(root, INDEX_NAME, "\n".join([json.dumps(header | {key: value}), *rows]))
    assert f"{path} has a damaged first line ({key}: " in sentence_of(root)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("columns:\n  image: '{id:99999999999d}.png'\ntable: t.csv", "t.csv"),
        ("images: '{stem}.png'\nroot: ~nobody_here", "`root` is '~nobody_here', which is no path"),
        ('images: "{stem}.png"\nroot: "\\0"', "`root` must be a text"),
        ("images: 'bolt/test/{defect}/{stem}'\nname: ''", "has a name that is empty"),
        ("images: '{stem}.png'\nname: [a]", "`name` must be a text"),
        ("images: '{*}{*}{*}{*}{*}/{stem}'", "more than 3 fields of any value in a row"),
        ("images: &a [*a]", "is not readable YAML: found unconstructable recursive node"),
        ("{" * 1000, "is not readable YAML"),
    ],
)
def test_a_spec_that_cannot_be_meant_is_refused_in_a_sentence(root: Path, text: str, reason: str):
    written(root, "t.csv", "id,label\n7,0\n")
    written(root, "x.png", b"")
    assert reason in sentence_of(written(root, "own.yaml", text))


# ---- what never ends


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)], ids=["fifo", "device"])
@pytest.mark.parametrize("name", ["bolt/test/good/1.png", "own.csv", "meta.json", "own.yaml", "own.jsonl"])
def test_what_is_no_regular_file_is_refused_before_it_is_opened(root: Path, make: Callable[[Path], object], name: str):
    make(root / name)
    assert f"{root / name} is no regular file" in sentence_of(root if name.endswith(".png") else root / name)


def test_a_table_of_a_spec_that_is_no_regular_file_is_refused(root: Path):
    os.mkfifo(root / "t.csv")
    assert "t.csv cannot be read (it is no regular file)" in sentence_of(written(root, "own.yaml", "table: t.csv"))


def test_links_to_the_folder_itself_are_followed_once(root: Path):
    for name in "abcde":
        (root / name).symlink_to(".")
        (root / "bolt" / name).symlink_to("..")
    assert [sample.image.name for sample in load_index(root).test] == ["0.png", "0.png"]


# ---- names


@pytest.mark.parametrize("name", ["a\0b", "a\nb", " ", "x" * 300])
def test_a_name_that_cannot_be_shown_is_refused(root: Path, name: str):
    entry = {**ENTRY, "cls_name": name} if name.strip() else {**ENTRY, "cls_name": "\x7f"}
    assert "has a name that is empty, longer than 200 characters or not printable" in sentence_of(
        written(root, "meta.json", json.dumps({"test": {"bolt": [entry]}}))
    )


def test_categories_and_paths_with_slashes_are_told_apart(make_tree: MakeTree):
    root = make_tree("b/c.png", "c.png")
    entries = [
        {"img_path": "b/c.png", "cls_name": "a", "anomaly": 0},
        {"img_path": "c.png", "cls_name": "a/b", "anomaly": 1},
    ]
    index = load_index(written(root, "meta.json", json.dumps({"test": {"x": entries}})))
    assert sorted(sample.category for sample in index.test) == ["a", "a/b"]
    assert len({sample.key for sample in index.test}) == 2


# ---- anything at all


ODD = [b"", b"\0", b"\xff", b"[", b"{", b'"', b"1e999", b"null", b"-1", b"\n", b",", b"..", b"/", b"*", b": "]


def mutated(text: bytes, seed: int) -> bytes:
    """The text with up to four bytes flipped, cut out, doubled, or replaced by what parsers stumble over."""
    rng = random.Random(seed)
    for _ in range(rng.randint(1, 4)):
        place, length = rng.randrange(len(text)), rng.choice([1, 1, 8, 64])
        flipped, doubled = bytes([text[place] ^ (1 << rng.randrange(8))]), text[place : place + length] * 2
        text = text[:place] + rng.choice([rng.choice(ODD), flipped, doubled]) + text[place + length :] or b" "
    return text


SOUND: dict[str, Callable[[Path], bytes]] = {
    "own.csv": lambda root: (
        f"image,label,mask,category\n{PLACES[0]},0,,bolt\n{PLACES[1]},1,{PLACES[2]},bolt\n".encode()
    ),
    "own.jsonl": lambda root: "".join(
        json.dumps({"image": entry["img_path"], "label": entry["anomaly"], "mask": entry["mask_path"]}) + "\n"
        for entry in (ENTRY, BROKEN)
    ).encode(),
    "meta.json": lambda root: json.dumps({"train": {}, "test": {"bolt": [ENTRY, BROKEN]}}).encode(),
    "own.yaml": lambda root: (
        b"images: '{category}/{split}/{defect}/{stem}'\nmasks: '{category}/ground_truth/{defect}/{stem}_mask'\n"
        b"normal: good\nsplits: {test: [test, val]}\nmask_threshold: 100\nname: own\nblank: normal\n"
    ),
    INDEX_NAME: lambda root: _index_of(root),
}


def _index_of(root: Path) -> bytes:
    write_index(require_marked(load_index(root)), root / INDEX_NAME)
    return (root / INDEX_NAME).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("name", SOUND)
def test_a_damaged_description_is_read_or_refused_in_a_sentence(root: Path, name: str):
    write_image(root / PLACES[2], np.full((4, 4), 255, np.uint8))
    sound = SOUND[name](root)
    assert len(load_index(written(root, name, sound)).test) == 2
    for seed in range(150):
        path = written(root, name, mutated(sound, seed))
        with suppress(DatasetError):  # whose message is a sentence; any other error fails
            index = require_marked(load_index(path))
            assert index.fingerprint()
            assert {sample.label for sample in index.test + index.train} <= {0, 1}, seed
