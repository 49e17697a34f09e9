"""One folder of features: a memory-mapped safetensors file per image, named by the hash of the image's content.

A file per image, written under another name and then renamed, is all that it takes for builds that resume, for
evaluations and seeds that share, and for giving back space image by image; safetensors maps a file into memory
without a copy, knows bfloat16, and holds no code.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import torch
import xxhash
from filelock import FileLock, Timeout
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor

from cops_lightning.core.choices import Precision, require_choice
from cops_lightning.core.errors import CacheError, of_system, told
from cops_lightning.core.files import clear_litter, replacing
from cops_lightning.core.types import DTYPES

FOLDER = "features"  # below the folder of the cache, which other things share
LAYOUT = 3  # raised when files written before can no longer be read
NO_NAME = "0" * 32  # as long as every name
SUFFIX = ".safetensors"
BUILDING = "build.lock"
MASK_SUFFIX = ".mask.safetensors"
DESCRIPTION = "store.json"
CHECKSUM, NAME = "xxh3_128", "name"  # of a file's metadata


@dataclass(frozen=True)
class FeatureKey:
    """What features depend on, beside the content of an image.

    Args:
        backbone: hash of the frozen weights.
        encoder: what is computed with them, in words.
        image_size: side in pixels.
        preprocessing: version of the steps from file to tensor.
        precision: in which the encoder computes.
        dtype: in which its features are kept.
        patches: number N of patches.
        width: width D of the joint space, and so of the global feature.
        patch_shape: of the patch features of an image, where it is another than (patches, width).
    """

    backbone: str
    encoder: str
    image_size: int
    preprocessing: int
    precision: Precision
    dtype: Precision
    patches: int
    width: int
    patch_shape: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        require_choice("callbacks.feature_cache.dtype", self.dtype, Precision)

    @property
    def description(self) -> dict[str, Any]:
        """As plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def name(self) -> str:
        """A folder name that no other key has."""
        content = json.dumps([LAYOUT, self.description], sort_keys=True)
        return f"{self.backbone[:8]}-{self.image_size}px-{self.dtype}-{xxhash.xxh3_64_hexdigest(content.encode())}"

    @property
    def entry_bytes(self) -> int:
        """Bytes of the features of one image, without the few hundred of the file's header."""
        return sum(map(math.prod, self.shapes.values())) * DTYPES[self.dtype].itemsize

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of each tensor of an image's features."""
        return {"image": (self.width,), "patches": self.patch_shape or (self.patches, self.width)}


class Entry(NamedTuple):
    """Features of one image: the global feature g and the unpooled patch features f, in the type they are kept in.

    `name` is that of the pixels that they were computed from, see `core.seeding.content_names`.
    """

    image: Float[Tensor, " d"]
    patches: Float[Tensor, "*l p e"]
    name: str


class FeatureStore:
    """Features of many images under one key, below `root`; several processes may read and write at once.

    An entry counts from the moment it has its final name. Its checksum is compared at every reading.
    """

    def __init__(self, root: Path, key: FeatureKey) -> None:
        self.root, self.key, self.folder = root, key, root / key.name
        self._lease: Path | None = None

    @cached_property
    def _size(self) -> int:
        """Size of an entry's file: the same for all, as their shapes and the lengths of their names are."""
        dtype = DTYPES[self.key.dtype]
        empty = {name: torch.zeros(shape, dtype=dtype) for name, shape in self.key.shapes.items()}
        return len(save(empty, metadata=_metadata(empty, NO_NAME, self.folder)))

    def create(self) -> None:
        """Make the folder and describe it, and clear the cache of what killed writers left above it.

        Raises CacheError where it cannot be made.
        """
        try:
            clear_litter(self.root.parent)
            clear_litter(self.root)
            with replacing(self.folder / DESCRIPTION) as partial:
                partial.write_text(json.dumps({"layout": LAYOUT, **self.key.description}, indent=2) + "\n")
        except OSError as error:
            raise CacheError(
                f"{self.folder} cannot be written ({error.strerror}). Name another folder by paths.cache=FOLDER or "
                "COPS_CACHE, or go without by callbacks.feature_cache=null."
            ) from error

    def path(self, digest: str) -> Path:
        """Where the features of the image with this content hash are, or would be."""
        return self.folder / digest[:2] / f"{digest}{SUFFIX}"

    def mask_path(self, digest: str) -> Path:
        """Where the mask with this name is, or would be."""
        return self.folder / digest[:2] / f"{digest}{MASK_SUFFIX}"

    def holds(self, digest: str) -> bool:
        """Whether the features of this image are here, whole; their checksum is compared when they are read."""
        try:
            return self.path(digest).stat().st_size == self._size
        except OSError:
            return False

    def holds_mask(self, digest: str) -> bool:
        """Whether the mask of this name is here."""
        return self.mask_path(digest).is_file()

    def touch(self, images: Sequence[str], masks: Sequence[str]) -> None:
        """Note that these entries are used now, so that others are given back before them."""
        for path in (*map(self.path, images), *map(self.mask_path, masks)):
            with suppress(FileNotFoundError):
                os.utime(path)

    def write(self, digest: str, entry: Entry) -> None:
        """Keep the features of the image with this content hash, in the type of the key."""
        dtype = DTYPES[self.key.dtype]
        tensors = {"image": entry.image.to(dtype), "patches": entry.patches.to(dtype)}
        write_entry(self.path(digest), tensors, entry.name)

    def write_mask(self, digest: str, packed: UInt8[Tensor, " bytes"]) -> None:
        """Keep a mask, a bit a pixel."""
        write_entry(self.mask_path(digest), {"mask": packed})

    def read(self, digest: str) -> Entry:
        """The features of an image, mapped into memory. Raises CacheError if they are absent or damaged."""
        tensors, name = self._read(self.path(digest))
        return Entry(tensors["image"], tensors["patches"], name)

    def read_mask(self, digest: str) -> UInt8[Tensor, " bytes"]:
        """A mask, a bit a pixel. Raises CacheError if it is absent or damaged."""
        return self._read(self.mask_path(digest))[0]["mask"]

    def _read(self, path: Path) -> tuple[dict[str, Tensor], str]:
        try:
            return read_entry(path)
        except FileNotFoundError:
            raise CacheError(
                f"{path} is gone: something removed features while they were in use. Start the run again."
            ) from None
        except OSError as error:  # which says nothing about its content
            raise CacheError(of_system(error)) from None
        except CacheError as error:
            # The next run computes it anew.
            path.unlink(missing_ok=True)
            raise CacheError(f"{error} It was removed; start the run again, and it is computed anew.") from None

    @contextmanager
    def building(self, waiting: Callable[[], object] = lambda: None) -> Iterator[None]:
        """Exclusive right to add to this store; `waiting` is called where another process has it first.

        The right ends with the process that has it, however that ends.
        """
        lock = FileLock(self.folder / BUILDING)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            waiting()
            lock.acquire()
        with lock:
            lock.release()  # entering counts as a second acquisition
            # Whoever held the right before may have been killed in the midst of a file.
            for partial in self.folder.glob("??/.*.partial"):
                partial.unlink(missing_ok=True)
            yield

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep others from giving back this store's space, until the block ends or the process does."""
        lease = self.folder / "users" / f"{uuid4().hex}.lock"
        lease.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lease):
            self._lease = lease
            try:
                yield
            finally:
                self._lease = None
        lease.unlink(missing_ok=True)

    def used_by_others(self) -> bool:
        """Whether a living process other than this one reads from here."""
        return is_used(self.folder, own=self._lease)


def is_used(folder: Path, own: Path | None = None) -> bool:
    """Whether a living process reads from the store in this folder; what the dead left behind is removed."""
    for path in (folder / "users").glob("*.lock"):
        if path == own:
            continue
        try:
            with FileLock(path, blocking=False):
                path.unlink(missing_ok=True)
        except (Timeout, OSError):
            return True
    return False


def claim(folder: Path, until: ExitStack) -> bool:
    """Keep others from adding to the store in this folder; False if a living process adds to it or reads from it."""
    lock = FileLock(folder / BUILDING, blocking=False)
    try:
        until.enter_context(lock)
    except (Timeout, OSError):
        return False
    return not is_used(folder)


def write_entry(path: Path, tensors: Mapping[str, Tensor], name: str = "") -> None:
    """Write tensors under a name, with their checksum, atomically. Raises CacheError where that is not possible."""
    try:
        with replacing(path) as partial:
            whole = {part: tensor.contiguous() for part, tensor in tensors.items()}
            save_file(whole, partial, metadata=_metadata(whole, name, path))
    except (OSError, SafetensorError) as error:
        raise CacheError(
            f"{path} cannot be written ({error}). Make room by cops-cache prune, or go without by "
            "callbacks.feature_cache=null."
        ) from error


def read_entry(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file, mapped into memory, and their name.

    Raises CacheError if the file is not, byte by byte, what was written there, and OSError if it cannot be read.
    """
    with path.open("rb"):  # safetensors does not tell the one from the other
        pass
    with told(CacheError, f"{path} is damaged", ""):
        with safe_open(path, framework="pt") as file:
            tensors = {part: file.get_tensor(part) for part in file.keys()}  # noqa: SIM118 (it is no mapping)
            metadata = file.metadata() or {}
        name = metadata.get(NAME, "")
        if metadata.get(CHECKSUM) != checksum(tensors, name, path):
            raise CacheError(f"{path} is damaged: its content does not have the checksum it was written with.")
    return tensors, name


def _metadata(tensors: Mapping[str, Tensor], name: str, path: Path) -> dict[str, str]:
    return {CHECKSUM: checksum(tensors, name, path), NAME: name}


def checksum(tensors: Mapping[str, Tensor], name: str, path: Path) -> str:
    """A hash of the name, of the parts' names, types, shapes and bytes, and of which file of which store it is."""
    state = xxhash.xxh3_128(json.dumps([name, *path.parts[-3::2]]).encode())
    for part in sorted(tensors):
        tensor = tensors[part]
        state.update(f"{part} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        state.update(tensor.view(torch.uint8).numpy().data)
    return state.hexdigest()


def read_description(folder: Path) -> dict[str, Any] | None:
    """The description in a store's folder, None if the folder is no store."""
    try:
        content = json.loads((folder / DESCRIPTION).read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
