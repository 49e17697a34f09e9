"""Unpacking a publisher's archive safely, whatever paths are in it."""

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from cops_lightning.core.errors import DatasetError
from cops_lightning.core.files import new_folder

CHUNK = 1 << 20


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
    try:
        packed = archive.stat().st_size
        destination.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{archive} cannot be unpacked to {destination}: {error.strerror or error}.") from error
    budget = min(limits.total_bytes, max(limits.free_of_ratio, int(limits.ratio * packed)))
    try:
        with new_folder(destination) as staging:
            return _unpack(archive, staging, budget, limits.members)
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise DatasetError(f"{archive} cannot be unpacked: {error}. Download it again.") from error


def _unpack(archive: Path, staging: Path, budget: int, most: int) -> int:
    count, claimed = 0, 0
    seen: set[str] = set()
    for member in _members(archive):
        target = staging / _safe_name(archive, member)
        count, claimed = count + 1, claimed + member.size
        if count > most:
            raise DatasetError(f"{archive} holds more than {most} files. It was not unpacked.")
        if str(target) in seen:
            raise DatasetError(f"{archive} holds '{member.name}' twice. It was not unpacked.")
        seen.add(str(target))
        if claimed > budget:
            raise _too_large(archive, budget)
        if member.size > shutil.disk_usage(staging).free:
            raise DatasetError(f"There is no room to unpack {archive} into {staging.parent}. Free some space.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            written = 0
            for chunk in member.chunks():
                written += len(chunk)
                if written > member.size:
                    raise _too_large(archive, budget)
                file.write(chunk)
    if not count:
        raise DatasetError(f"{archive} holds no files. Download it again.")
    return count


def _members(archive: Path) -> Iterator[Member]:
    """The files of an archive, in its order; folders are left out."""
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
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive, "r:*") as tarred:
            for entry in tarred:
                if entry.isdir():
                    continue
                kind = "file" if entry.isreg() else "link" if entry.issym() or entry.islnk() else "special file"
                yield Member(entry.name, entry.size, kind, partial(_tar_chunks, tarred, entry))
    else:
        raise DatasetError(f"{archive} is neither a .zip nor a .tar archive. Unpack it by hand, then check its folder.")


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
        raise DatasetError(f"{archive} holds the {member.kind} '{member.name}'. It was not unpacked.")
    if not name.parts or name.is_absolute() or ".." in name.parts or ":" in name.parts[0] or "\0" in member.name:
        raise DatasetError(f"{archive} holds '{member.name}', which leads outside the folder. It was not unpacked.")
    return name


def _too_large(archive: Path, budget: int) -> DatasetError:
    return DatasetError(f"{archive} unfolds to more than {budget / (1 << 20):.0f} MiB. It was not unpacked.")
