"""What counts as a source of images to predict on, and in which order they come."""

import glob
import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cops_lightning.core.errors import DatasetError
from cops_lightning.data.readers.pictures import Picture, pictures
from cops_lightning.data.stream import Unreadable, decoded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, in subfolders, and a file that is none."""
    for place, name in enumerate(("b.png", "a/2.jpg", "a/10.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (10 + place, 8), "red").save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("a/2.jpg\n\n  b.png  \nmissing.png\n", encoding="utf-8")
    return tmp_path


def names(source, root: Path) -> list[str]:
    return [picture.name.removeprefix(f"{root}/") for picture in pictures(source)]


def test_a_folder_gives_its_images_by_name_and_a_pattern_those_that_match(folder):
    assert names(folder, folder) == ["a/10.png", "a/2.jpg", "b.png"]
    assert names(str(folder / "**/*.png"), folder) == ["a/10.png", "b.png"]
    assert names(folder / "b.png", folder) == ["b.png"]


@pytest.mark.parametrize("pattern", ["**/*.png", "**", "a/**/*.png", "**/a/*", "**/*a*/*.???"])
def test_a_pattern_matches_what_glob_matches_also_where_links_lead_round_in_circles(folder, pattern, monkeypatch):
    monkeypatch.chdir(folder)
    expected = sorted({os.path.normpath(p) for p in glob.glob(pattern, recursive=True) if p.endswith(("png", "jpg"))})
    for name in "cdefg":
        os.symlink(".", name)
    found = {os.path.normpath(name) for name in names(pattern, folder)}
    assert sorted(name for name in found if name[0] not in "cdefg") == expected != []


def test_what_is_no_regular_file_never_holds_up_a_list_a_pattern_or_a_tiff(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("list.txt", "scan.tif"):
        os.mkfifo(name)
    os.symlink("/dev/zero", "zero.txt")
    for name in ("list.txt", "zero.txt"):
        with pytest.raises(DatasetError, match=f"{name} cannot be read .it is no regular file"):
            list(pictures(name))
    for source in ("scan.tif", "*.tif", ["scan.tif"]):
        (found,) = decoded(pictures(source), 8, 0)
        assert "scan.tif cannot be read: it is no regular file" in found.reason
    Path("long.txt").write_text("a.png\n" + "x" * 20_000)
    with pytest.raises(DatasetError, match=r"Line 2 of long\.txt is longer than any path"):
        list(pictures("long.txt"))


def test_a_list_of_a_windows_editor_and_the_users_folder_are_read(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    (folder / "bom.txt").write_bytes("\ufeffb.png\r\n~/a/2.jpg\r\n".encode())
    assert names("~/bom.txt", folder) == ["b.png", "a/2.jpg"]
    with pytest.raises(DatasetError, match="an empty text"):
        list(pictures(""))


def test_an_image_in_memory_is_read_as_its_file_is(tmp_path):
    deep = np.arange(48, dtype=np.uint16).reshape(6, 8) * 80
    Image.fromarray(deep).save(tmp_path / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(tmp_path / "turned.png", exif=exif)
    for name, size in (("deep.png", (8, 6)), ("turned.png", (6, 8))):
        (of_file,), (in_memory,) = pictures(tmp_path / name), pictures(Image.open(tmp_path / name))
        assert of_file.open().size == size
        assert np.array_equal(of_file.open(), in_memory.open())
    whole = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(whole, "PNG")
    with pytest.raises(DatasetError, match="image 1 cannot be read"):
        next(pictures(Image.open(BytesIO(whole.getvalue()[:2000])))).open()


def test_what_lies_too_deep_to_be_looked_into_is_said(tmp_path, capsys):
    deep = tmp_path.joinpath(*"abcdefghijklm")
    deep.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    Image.new("RGB", (4, 4)).save(deep / "1.png")
    assert names(tmp_path, tmp_path) == ["0.png"]
    assert "more than 10 levels deep was not looked into" in capsys.readouterr().err


def test_a_list_of_files_keeps_its_order_and_the_place_of_what_is_missing(folder):
    assert names(folder / "notes.txt", folder) == ["a/2.jpg", "b.png", "missing.png"]
    last = list(decoded(pictures(folder / "notes.txt"), 8))[-1]
    assert isinstance(last, Unreadable)
    assert "missing.png cannot be read: it does not exist" in last.reason


def test_the_pages_of_a_tiff_are_images_of_their_own(tmp_path):
    pages = [Image.new("RGB", (6, 4), color) for color in ("red", "green", "blue")]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    found = list(pictures(tmp_path / "scan.tif"))
    assert [picture.name for picture in found] == [f"{tmp_path / 'scan.tif'}[{page}]" for page in (1, 2, 3)]
    assert [picture.open().getpixel((0, 0)) for picture in found] == [(255, 0, 0), (0, 128, 0), (0, 0, 255)]


def test_pixels_in_memory_and_files_mix_and_are_numbered(folder):
    pixels = np.full((4, 6, 3), 7, np.uint8)
    source = (one for one in (pixels, folder / "b.png", Image.fromarray(pixels), [pixels]))
    assert names(source, folder) == ["image 1", "b.png", "image 2", "image 3"]
    assert Picture("image 1", pixels=pixels).open().getpixel((5, 3)) == (7, 7, 7)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_pictures_are_decoded_in_their_order_and_only_a_few_ahead(folder, workers):
    asked = []

    def endless():
        while True:
            asked.append(1)
            yield folder / "b.png"

    found = decoded(pictures(endless()), 8, workers)
    assert [next(found).size for _ in range(3)] == [(10, 8)] * 3
    assert len(asked) <= 3 + 2 * workers + 1
    found.close()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere", "nowhere does not exist"),
        ("*.webp", r"No image matches .*\*\.webp"),
        ("empty", "holds no image"),
        ("blank.txt", "names no image"),
        ("latin.txt", "it is not UTF-8"),
    ],
)
def test_a_source_without_images_says_so(tmp_path, source, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9.png\n")
    with pytest.raises(DatasetError, match=said):
        list(pictures(tmp_path / source))


def test_what_is_no_source_is_named():
    with pytest.raises(DatasetError, match="A source of images is a int; expected a path"):
        list(pictures([3]))
