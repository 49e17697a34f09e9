"""Unpacking a publisher's archive safely, whatever paths are in it."""

import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from cops_lightning.core.errors import DatasetError, quoted, told
from cops_lightning.core.files import new_folder

CHUNK = 1 << 20
# Blocks that tarfile reads whole, whatever their size: names and further headers of the file that follows.
DESCRIBING = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


@dataclass(frozen=True)
class Limits:
    """How large an archive may unfold. Images hardly compress, so a large ratio means an attack or an error."""

    total_bytes: int = 100 << 30
    ratio: float = 100.0
    free_of_ratio: int = 16 << 20  # small archives may unfold to this much whatever their ratio
    members: int = 1_000_000


@dataclass(frozen=True)
class Member:
    """One file of an archive. `size` is what the archive claims."""

    name: str
    size: int
    kind: str
    chunks: Callable[[], Iterator[bytes]]


def unpack(archive: Path, destination: Path, limits: Limits | None = None) -> int:
    """Unpack a .zip or .tar (also compressed) archive into a new or empty folder; the number of files written.

    Nothing is written outside `destination`, and either everything arrives there or nothing does. Raises DatasetError
    for paths that lead outside, for links and devices, for archives that unfold beyond `limits`, and for damaged ones.
    """
    limits = limits or Limits()
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise DatasetError(f"{destination} exists and is not empty. Give a new folder to unpack into.")
    way_out = f"Download it again if it is damaged; else give another folder than {destination}, with room for it."
    with told(DatasetError, f"{archive} cannot be unpacked", way_out):
        if not archive.is_file():
            raise DatasetError(f"There is no archive {archive}. Give the path of an existing file.")
        budget = min(limits.total_bytes, max(limits.free_of_ratio, int(limits.ratio * archive.stat().st_size)))
        with new_folder(destination) as staging:
            return _unpack(archive, staging, budget, limits.members)


def _unpack(archive: Path, staging: Path, budget: int, most: int) -> int:
    count, claimed = 0, 0
    seen: set[str] = set()
    for member in _members(archive, budget):
        target = staging / _safe_name(archive, member)
        count, claimed = count + 1, claimed + member.size
        if count > most:
            raise DatasetError(f"{archive} holds more than {most} files. It was not unpacked.")
        if str(target) in seen:
            raise DatasetError(f"{archive} holds {quoted(member.name)} twice. It was not unpacked.")
        seen.add(str(target))
        if claimed > budget:
            raise _too_large(archive, budget)
        if member.size > shutil.disk_usage(staging).free:
            raise DatasetError(f"There is no room to unpack {archive} into {staging.parent}. Free some space.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            for chunk in member.chunks():
                if file.tell() + len(chunk) > member.size:
                    raise _too_large(archive, budget)
                file.write(chunk)
            if file.tell() < member.size:
                raise DatasetError(f"{archive} ends within {quoted(member.name)}. Download it again.")
    if not count:
        raise DatasetError(f"{archive} holds no files. Download it again.")
    return count


def _members(archive: Path, budget: int) -> Iterator[Member]:
    """The files of an archive, in its order; folders are left out. What is behind the last one is read as well."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            for info in zipped.infolist():
                mode = stat.S_IFMT(info.external_attr >> 16)
                if info.filename.endswith("/"):
                    continue
                if info.flag_bits & 1:
                    raise DatasetError(f"{archive} is encrypted. Decrypt it first, then give its folder.")
                kind = "file" if mode in (0, stat.S_IFREG) else "link" if mode == stat.S_IFLNK else "special file"
                yield Member(info.filename, info.file_size, kind, partial(_zip_chunks, zipped, info))
        return
    try:
        tarred = tarfile.open(archive, "r:*", tarinfo=Header)  # noqa: SIM115 (closed below)
    except tarfile.ReadError:
        raise DatasetError(
            f"{archive} is neither a .zip nor a .tar archive, or its beginning is damaged. Download it again, or "
            "unpack it by hand and check its folder."
        ) from None
    with tarred:
        for entry in tarred:
            if entry.isdir():
                continue
            kind = "file" if entry.isreg() else "link" if entry.issym() or entry.islnk() else "special file"
            yield Member(entry.name, entry.size, kind, partial(_tar_chunks, tarred, entry))
        _require_nothing_more(archive, tarred, budget)


def _require_nothing_more(archive: Path, tarred: tarfile.TarFile, budget: int) -> None:
    """Read the stream behind the last file to its end: a compressed one has its checksum there."""
    assert tarred.fileobj is not None
    read = 0
    while chunk := tarred.fileobj.read(CHUNK):
        read += len(chunk)
        if read > budget:
            raise _too_large(archive, budget)
        if chunk.strip(b"\0"):
            raise DatasetError(f"{archive} goes on behind the end of its list of files. Download it again.")


class Header(tarfile.TarInfo):
    """A header of a .tar archive. tarfile takes a damaged one, or the lack of any, for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Header":
        """The header in a block. Raises ReadError where it is damaged, or describes the next file at undue length."""
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"a header of a file in it is damaged or missing: {error}") from None
        if header.size < 0 or (header.size > CHUNK and header.type in DESCRIBING):
            raise tarfile.ReadError(f"a header of a file in it claims {header.size} bytes")
        return header


def _zip_chunks(zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with zipped.open(info) as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _tar_chunks(tarred: tarfile.TarFile, entry: tarfile.TarInfo) -> Iterator[bytes]:
    file = tarred.extractfile(entry)
    assert file is not None  # only links and devices have no content, and they are refused before
    with file:
        while chunk := file.read(CHUNK):
            yield chunk


def _safe_name(archive: Path, member: Member) -> PurePosixPath:
    """The relative path of a member. Raises DatasetError where it would leave the folder, or is no plain file."""
    name = PurePosixPath(member.name.replace("\\", "/"))
    if member.kind != "file":
        raise DatasetError(f"{archive} holds the {member.kind} {quoted(member.name)}. It was not unpacked.")
    if not name.parts or name.is_absolute() or ".." in name.parts or ":" in name.parts[0] or "\0" in member.name:
        raise DatasetError(
            f"{archive} holds {quoted(member.name)}, which leads outside the folder. It was not unpacked."
        )
    return name


def _too_large(archive: Path, budget: int) -> DatasetError:
    return DatasetError(f"{archive} unfolds to more than {budget / (1 << 20):.0f} MiB. It was not unpacked.")
