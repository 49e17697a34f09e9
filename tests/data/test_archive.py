"""Archives are unpacked without trusting them: all of it inside the folder given, or nothing."""

import gzip
import io
import random
import tarfile
import zipfile
from pathlib import Path

import pytest

from cops_lightning.core.errors import DatasetError
from cops_lightning.data.tools.archive import Limits, unpack


def zipped(path: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def tarred(path: Path, *members: tarfile.TarInfo | tuple[str, bytes]) -> Path:
    with tarfile.open(path, f"w:{path.suffix[1:]}" if path.suffix != ".tar" else "w") as archive:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                archive.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                archive.addfile(info, io.BytesIO(member[1]))
    return path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def error_of(archive: Path, limits: Limits | None = None) -> str:
    """The message that unpacking ends with; nothing may be left on disk."""
    before = sorted(archive.parent.iterdir())
    with pytest.raises(DatasetError) as caught:
        unpack(archive, archive.parent / "new", limits)
    assert sorted(archive.parent.iterdir()) == before
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_a_harmless_archive_is_unpacked(tmp_path: Path, suffix: str):
    pack = zipped if suffix == "zip" else tarred
    archive = pack(tmp_path / f"x.{suffix}", ("a/1.png", b"one"), ("a/b/2.png", b"two"), ("a/b/empty", b""))
    assert unpack(archive, tmp_path / "new") == 3
    assert (tmp_path / "new/a/1.png").read_bytes() == b"one"
    assert (tmp_path / "new/a/b/2.png").read_bytes() == b"two"


def test_an_empty_folder_may_be_unpacked_into_but_a_full_one_may_not(tmp_path: Path):
    archive = zipped(tmp_path / "x.zip", ("1.png", b"one"))
    (tmp_path / "new").mkdir()
    unpack(archive, tmp_path / "new")
    assert "new exists and is not empty. Give a new folder to unpack into." in error_of(archive)


@pytest.mark.parametrize("name", ["../1.png", "a/../../1.png", "/etc/1.png", "..\\1.png", "C:\\1.png"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_path_that_leads_outside_is_refused(tmp_path: Path, pack: object, name: str):
    archive = zipped(tmp_path / "x.zip", (name, b"x")) if pack is zipped else tarred(tmp_path / "x.tar", (name, b"x"))
    assert "which leads outside the folder. It was not unpacked." in error_of(archive)


@pytest.mark.parametrize(
    ("kind", "word"), [(tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "link"), (tarfile.FIFOTYPE, "special file")]
)
def test_links_and_special_files_are_refused(tmp_path: Path, kind: bytes, word: str):
    archive = tarred(tmp_path / "x.tar", ("1.png", b"x"), special("2.png", kind, "/etc/passwd"))
    assert f"holds the {word} '2.png'. It was not unpacked." in error_of(archive)


def test_a_link_in_a_zip_is_refused(tmp_path: Path):
    info = zipfile.ZipInfo("link.png")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    assert "holds the link 'link.png'" in error_of(tmp_path / "x.zip")


def test_an_archive_that_unfolds_without_bounds_is_refused(tmp_path: Path):
    archive = zipped(tmp_path / "x.zip", ("0.png", bytes(1 << 22)), method=zipfile.ZIP_DEFLATED)
    assert "unfolds to more than 1 MiB." in error_of(archive, Limits(free_of_ratio=1 << 20, ratio=1.5))
    assert "unfolds to more than 2 MiB." in error_of(archive, Limits(total_bytes=2 << 20))


def test_many_files_are_refused(tmp_path: Path):
    archive = zipped(tmp_path / "x.zip", *((f"{i}.png", b"") for i in range(4)))
    assert "holds more than 3 files." in error_of(archive, Limits(members=3))


def test_one_name_twice_is_refused(tmp_path: Path):
    archive = tarred(tmp_path / "x.tar", ("a/1.png", b"one"), ("./a/1.png", b"two"))
    assert "holds './a/1.png' twice." in error_of(archive)


def test_a_damaged_archive_leaves_nothing_behind(tmp_path: Path):
    archive = zipped(tmp_path / "x.zip", ("1.png", b"one" * 100), ("2.png", b"two" * 100))
    content = bytearray(archive.read_bytes())
    content[content.index(b"twotwo")] ^= 1
    archive.write_bytes(bytes(content))
    assert "Bad CRC-32 for file '2.png'). Download it again" in error_of(archive)


def test_a_truncated_archive_leaves_nothing_behind(tmp_path: Path):
    archive = tarred(tmp_path / "x.tar.gz", ("1.png", bytes(range(256)) * 500))
    archive.write_bytes(archive.read_bytes()[:-200])
    assert "x.tar.gz cannot be unpacked" in error_of(archive)


def test_an_encrypted_archive_says_so(tmp_path: Path):
    archive = zipped(tmp_path / "x.zip", ("1.png", b"one"))
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag of encryption in the central directory
    archive.write_bytes(bytes(content))
    assert "is encrypted." in error_of(archive)


def test_a_file_that_is_no_archive_says_so(tmp_path: Path):
    (tmp_path / "x.rar").write_bytes(b"Rar!")
    assert "x.rar is neither a .zip nor a .tar archive" in error_of(tmp_path / "x.rar")
    assert "There is no archive" in error_of(tmp_path / "absent.zip")


def test_an_archive_without_files_says_so(tmp_path: Path):
    assert "holds no files." in error_of(zipped(tmp_path / "x.zip"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


FILES = {f"a/{i}.png": random.Random(i).randbytes(300 + i) for i in range(4)}


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tar.xz", "tar.bz2"])
def test_a_damaged_archive_gives_one_sentence_or_the_right_files(tmp_path: Path, suffix: str):
    pack, draw = zipped if suffix == "zip" else tarred, random.Random(0)
    archive = pack(tmp_path / f"x.{suffix}", *FILES.items())
    whole = archive.read_bytes()
    # A .tar has checksums of its headers alone: each precedes 512 bytes of content.
    places = [p for p in range(len(whole)) if suffix != "tar" or p // 512 % 2 == 0]
    for number in range(150):
        damaged = bytearray(whole)
        if number % 10 == 0:
            del damaged[draw.randrange(len(whole)) :]
        else:
            damaged[draw.choice(places)] ^= 1 << draw.randrange(8)
        archive.write_bytes(damaged)
        new = tmp_path / f"new{number}"
        try:
            unpack(archive, new)
        except DatasetError as error:
            found = str(error)
        else:
            found = contents(new)
        if isinstance(found, str):
            assert found.startswith(str(archive))
            assert not new.exists()
        else:
            assert found == FILES


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz"])
def test_a_missing_end_is_noticed(tmp_path: Path, suffix: str):
    archive = tarred(tmp_path / f"x.{suffix}", *FILES.items())
    content = archive.read_bytes()
    cut = (
        4 * 1024 if suffix == "tar" else len(content) - 12
    )  # of a .tar all files are there, but not its two zero blocks
    archive.write_bytes(content[:cut])
    assert f"x.{suffix} cannot be unpacked" in error_of(archive)


def test_two_archives_in_one_file_are_not_taken_for_the_first(tmp_path: Path):
    one = tarred(tmp_path / "x.tar", ("1.png", b"one")).read_bytes()
    two = tarred(tmp_path / "y.tar", ("2.png", b"two")).read_bytes()
    (tmp_path / "x.tar").write_bytes(one + two)
    (tmp_path / "y.tar").unlink()
    assert "goes on behind the end of its list of files." in error_of(tmp_path / "x.tar")


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_that_unfolds_to_gigabytes_is_not_read(tmp_path: Path, kind: bytes):
    header = special("x", kind)
    header.size = 4 << 30
    with gzip.open(tmp_path / "x.tar.gz", "wb") as file:
        file.write(tarfile.TarInfo("empty.png").tobuf() + header.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20))
    assert f"claims {4 << 30} bytes" in error_of(tmp_path / "x.tar.gz")


def test_a_stream_of_zeros_behind_the_end_is_bounded(tmp_path: Path):
    archive = tarred(tmp_path / "x.tar", ("1.png", b"one"))
    with gzip.open(tmp_path / "y.tar.gz", "wb") as file:
        file.write(archive.read_bytes() + bytes(4 << 20))
    archive.unlink()
    assert "unfolds to more than 1 MiB." in error_of(tmp_path / "y.tar.gz", Limits(free_of_ratio=1 << 20, ratio=1.0))


def test_a_name_of_a_million_characters_is_quoted_in_part(tmp_path: Path):
    archive = tarred(tmp_path / "x.tar", ("../" + "n" * 1_000_000, b"x"))
    assert len(error_of(archive)) < 1000
