"""Images in stores that fsspec knows: which ones a URL names, and what is seen of them."""

import http.server
import os
import re
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import fsspec
import numpy as np
import pytest
import tifffile
from PIL import Image

from cops_lightning.core.errors import DatasetError
from cops_lightning.data.readers.images import ReadingError, read_image
from cops_lightning.data.readers.pictures import pictures
from cops_lightning.data.readers.remote import Remote
from cops_lightning.data.stream import Unreadable, decoded

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)


def encoded(format: str, **options) -> bytes:
    held = BytesIO()
    Image.fromarray(PIXELS).save(held, format=format, **options)
    return held.getvalue()


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def pages() -> bytes:
    held = BytesIO()
    others = [Image.new("RGB", (16, 12), color) for color in ("red", "blue")]
    Image.fromarray(PIXELS).save(held, format="TIFF", save_all=True, append_images=others)
    return held.getvalue()


def deep(values: np.ndarray, **options) -> bytes:
    held = BytesIO()
    tifffile.imwrite(held, values, **options)
    return held.getvalue()


FILES = {
    "a/10.png": encoded("PNG"),
    "a/2.JPG": encoded("JPEG", exif=turned()),
    "a/deeper/1.tif": pages(),
    "b.png": encoded("PNG", exif=turned()),
    "turned.tif": encoded("TIFF", exif=turned()),
    "planes.tif": deep(PIXELS, photometric="minisblack", planarconfig="contig"),
    "twelve.tif": deep(PIXELS.astype(np.uint16) * 16 + 3, photometric="rgb"),
    "empty.png": b"",
    "text.png": b"no image",
    "half.png": encoded("PNG")[:300],
}
STRAY = {"a/.hidden.png": b"", ".cache/x.png": b"", "notes.md": b"", "a/Thumbs.db": b""}
IMAGES = sorted(FILES)


@pytest.fixture
def memory() -> Iterator[str]:
    """A prefix in memory with good, bad and stray files."""
    store = fsspec.filesystem("memory")
    for name, content in {**FILES, **STRAY}.items():
        store.pipe(f"/bucket/parts/{name}", content)
    store.pipe("/bucket/parts2/other.png", encoded("PNG"))
    yield "memory://bucket/parts"
    store.store.clear()
    store.pseudo_dirs[:] = [""]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The same files from a server of this machine, which knows nothing of parts of files."""
    for name, content in {**FILES, **STRAY}.items():
        (tmp_path / "parts" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "parts" / name).write_bytes(content)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *given) -> None:
            super().__init__(*given, directory=str(tmp_path))

        def log_message(self, *_given) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/parts"
        server.shutdown()


def names(source: object, root: str = "") -> list[str]:
    return [picture.name.removeprefix(root).lstrip("/") for picture in pictures(source)]


def with_pages(found: list[str]) -> list[str]:
    return [name for one in found for name in ([f"{one}[{page}]" for page in (1, 2, 3)] if "deeper" in one else [one])]


def test_a_prefix_gives_its_images_by_name_without_hidden_ones(memory):
    assert names(f"{memory}/", memory) == with_pages(IMAGES)
    assert names(memory, memory) == with_pages(IMAGES)
    assert names(f"{memory}/a/*.png", memory) == ["a/10.png"]
    assert names(f"{memory}/**/*.png", memory) == [name for name in IMAGES if name.endswith(".png")]
    assert names(f"{memory}/b.png") == [f"{memory}/b.png"]


def test_an_address_of_a_folder_without_its_slash_is_told_of_it(served):
    (found,) = decoded(pictures(served), 8)
    assert "no image of a known format (if it is a folder, end its address with a slash)" in found.reason


def test_what_is_seen_and_said_of_a_file_is_the_same_wherever_it_lies(memory, served, tmp_path):
    for name in IMAGES:
        (tmp_path / "local" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "local" / name).write_bytes(FILES[name])
    local = list(decoded(pictures(tmp_path / "local"), 8))
    assert names(f"file://{tmp_path}/local") == names(f"local://{tmp_path}/local/**") == names(tmp_path / "local")
    for root in (memory, served):
        found = list(decoded(pictures(f"{root}/"), 8))
        assert [one.picture.name for one in found] == [f"{root}/{name}" for name in with_pages(IMAGES)]
        for here, there in zip(local, found, strict=True):
            if isinstance(here, Unreadable):
                assert isinstance(there, Unreadable)
                assert there.reason == here.reason.replace(f"{tmp_path}/local", root)
            else:
                assert (there.size, there.image.tolist()) == (here.size, here.image.tolist()), here.picture.name


def test_a_list_on_this_machine_may_name_urls(memory, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "here.png")
    (tmp_path / "list.txt").write_text(f"{memory}/b.png\nhere.png\n{memory}/gone.png\n")
    found = list(decoded(pictures(tmp_path / "list.txt"), 8))
    assert [one.picture.name for one in found] == [f"{memory}/b.png", f"{tmp_path}/here.png", f"{memory}/gone.png"]
    assert isinstance(found[2], Unreadable)
    assert f"{memory}/gone.png cannot be read: " in found[2].reason
    assert names([f"{memory}/gone.png", f"{memory}/a/"]) == [
        f"{memory}/gone.png",
        *with_pages([f"{memory}/{name}" for name in IMAGES if name.startswith("a/")]),
    ]


def test_files_in_an_archive_are_reached_by_a_chain(memory):
    held = BytesIO()
    with ZipFile(held, "w") as archive:
        archive.writestr("in/x.png", FILES["b.png"])
    fsspec.filesystem("memory").pipe("/bucket/all.zip", held.getvalue())
    (found,) = pictures("zip://::memory://bucket/all.zip")
    assert found.name == "zip://in/x.png::memory://bucket/all.zip"
    assert found.open().size == (12, 16)


def test_a_page_that_names_files_elsewhere_or_leads_round_in_circles_is_not_followed(tmp_path):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            links = [
                "ok.png",
                "../secret.png",
                "/secret.png",
                "http://localhost:1/far.png",
                "loop/",
                ".hid.png",
                "%2e%2e/s.png",
            ]
            body = "".join(f'<a href="{link}">x</a>' for link in links).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_given) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_port}/parts/"
        found = names(root)
        server.shutdown()
    assert found[0].startswith(f"{root}loop/")
    assert all(re.fullmatch(rf"{re.escape(root)}(loop/)*ok\.png", name) for name in found), found
    assert len(found) <= 12


class StoreError(Exception):
    """What a store's package may raise."""


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://nowhere/", "memory://nowhere/ holds no image. Expected files that end in .bmp"),
        ("memory://nowhere/*.png", "holds no image"),
        ("memory://bucket/list.txt", "read as a list of images from this machine alone. Copy it here."),
        ("memry://bucket/", "fsspec knows no memry://. Did you mean 'memory'?"),
        ("ftp://me:secret@localhost/a/", "the URL holds a password"),
        ("ftp://me:secret@localhost/list.txt", "the URL holds a password"),
        ("zip://a.png::http://me:secret@localhost/x.zip", "the URL holds a password"),
        ("simplecache::http://me:secret@localhost/a.png", "the URL holds a password"),
        ("http://me:secret@[::1]/a.png", "the URL holds a password"),
        ("http://me:sec::ret@localhost/a.png", "the URL holds a password"),
        (
            "gdrive://folder/",
            "gdrive:// needs a package that is not installed. Install it by: pip install 'gdrive_fsspec'.",
        ),
        ("http://127.0.0.1:9/a.png", "http://127.0.0.1:9/a.png holds no image"),
    ],
)
def test_what_cannot_be_found_is_a_sentence(url, said):
    with pytest.raises(DatasetError) as caught:
        list(pictures(url))
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_password_in_a_list_is_refused_and_no_sign_of_a_name_is_taken_for_one(memory, tmp_path):
    (tmp_path / "list.txt").write_text("zip://a.png::http://me:secret@localhost/x.zip\n")
    with pytest.raises(DatasetError, match=r"^zip://\.\.\.: the URL holds a password") as caught:
        list(pictures(tmp_path / "list.txt"))
    assert "secret" not in str(caught.value)
    fsspec.filesystem("memory").pipe("/odd/a:b@c.png", FILES["b.png"])
    assert names("memory://odd/") == names("memory://odd/a:b@c.png") == ["memory://odd/a:b@c.png"]


def test_a_fifo_holds_nobody_up_whatever_url_names_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    fifo = f"{tmp_path}/pipe.png"
    (tmp_path / "list.txt").write_text(f"file://{fifo}\nzip://a.png::file://{fifo}\n")
    for source in (f"file://{fifo}", f"local://{fifo}", tmp_path / "list.txt", [f"zip://a.png::{fifo}"]):
        assert all("no regular file" in one.reason for one in decoded(pictures(source), 8, 0))
    with pytest.raises(DatasetError, match=r"pipe\.png is no regular file"):
        list(pictures(f"zip://::file://{fifo}"))


def test_whatever_a_store_raises_is_a_sentence(memory, monkeypatch):
    def broken(*_given, **_options):
        raise StoreError("the moon is full")

    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "find", broken)
    with pytest.raises(DatasetError, match=r"cannot be read \(the moon is full\)\. See that it exists"):
        list(pictures(f"{memory}/"))
    monkeypatch.setattr(fsspec.implementations.memory.MemoryFileSystem, "_open", broken)
    with pytest.raises(ReadingError, match=r"b\.png cannot be read: the moon is full\. Replace the file\."):
        read_image(Remote(f"{memory}/b.png"))


def test_a_file_that_is_read_whole_has_a_largest_size(served, monkeypatch):
    monkeypatch.setattr("cops_lightning.data.readers.remote.LARGEST", len(FILES["a/2.JPG"]) - 1)
    (found,) = decoded(pictures(f"{served}/a/2.JPG"), 8)
    assert isinstance(found, Unreadable)
    assert "more than are read of a file there" in found.reason
    assert read_image(Remote(f"{served}/a/10.png")).size == (16, 12)


def test_a_name_with_blanks_and_signs_is_found_again(memory):
    fsspec.filesystem("memory").pipe("/odd/ü #1 [x]?.png", FILES["b.png"])
    (found,) = pictures("memory://odd/")
    assert found.name == "memory://odd/ü #1 [x]?.png"
    assert found.open().size == (12, 16)
