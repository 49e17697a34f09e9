"""Files of tensors and plain values: read only if they are whole, and without running anything that they hold."""

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors.torch import load_file
from torch import Tensor

from cops_lightning.core.errors import CopsError, excerpt, listed, quoted, told
from cops_lightning.core.files import replacing
from cops_lightning.core.types import StateDict

SEAL = 32  # bytes of a hash in an archive's comment
BLOCK = 1 << 20
LISTED = 8  # names that a message lists
UNFOLDED = 64 << 20  # bytes that the compressed parts of an archive, its source code, may take
TENSOR = "torch._utils", "_rebuild_tensor_v2"


def read_tensors(path: Path, error: type[CopsError]) -> dict[str, Any]:
    """The mapping stored in a file: TorchScript's, as OpenAI publishes CLIP, safetensors, or one saved by torch.save.

    Of a zip archive every checksum is compared, which torch does not do; of TorchScript only the tensors are read.
    Raises `error` if the file is absent, damaged, or holds anything but tensors and plain values.
    """
    way_out = (
        "Expected tensors and plain values saved by torch.save, safetensors, or a TorchScript archive of weights; if "
        "the file is damaged, get it anew, go back to an earlier one, or remove it and train again."
    )
    with told(error, f"{path} cannot be read as weights", way_out):
        if not path.is_file():
            raise error(f"There is no file {path}. Give the path of an existing file.")
        content = _content(path)
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise error(f"{path} holds a {type(content).__name__}; expected a mapping of names to tensors.")
    return content if isinstance(content, dict) else dict(content)  # torch's own has metadata beside its names


def write_tensors(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as torch.save does, in one step, with a hash of it all as the archive's comment.

    That of each part, which torch leaves unread, takes three times as long to compare.
    """
    # Not straight to the file: on a full disk torch says that a position is unexpected.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = bytes(SEAL)
    digest = _digest(buffer)
    buffer.write(digest)
    with replacing(path) as partial:
        partial.write_bytes(buffer.getbuffer())


def require_tensors(state: Any, what: str, error: type[CopsError]) -> StateDict:
    """`state`, if it maps names to tensors of numbers that take the room they say. Raises `error` for anything else."""
    if not isinstance(state, Mapping):
        raise error(f"{what} is a {type(state).__name__}; expected a mapping of names to tensors.")
    for name, value in state.items():
        if not isinstance(name, str) or not _is_plain(value):
            raise error(f"{what} holds a {type(value).__name__} under {quoted(name)}; expected names to plain tensors.")
    return dict(state)


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return _is_torchscript(archive)


def names_of(content: Mapping[str, Any]) -> str:
    """The top-level names of a file's content, for a message."""
    return listed([excerpt(name, 60) for name in content], LISTED) or "none"


def require_whole(path: Path, error: type[CopsError]) -> None:
    """Compare the checksums of a file saved by torch.save. Raises `error` where one is another."""
    with (
        told(error, f"{path} is not what was written", "Go back to an earlier one, or remove it and train again."),
        zipfile.ZipFile(path) as archive,
    ):
        _require_whole(archive)


def _content(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return load_file(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(info.file_size for info in archive.infolist()) > path.stat().st_size + UNFOLDED:
                raise MemoryError
            if _is_torchscript(archive):
                return dict(_named(_Attributes(archive).load()))
            _require_whole(archive)
    return torch.load(path, map_location="cpu", weights_only=True)


def _require_whole(archive: zipfile.ZipFile) -> None:
    infos = archive.infolist()
    if not all(map(_is_stored, infos)) or len({info.filename for info in infos}) < len(infos):
        raise zipfile.BadZipFile("its table of contents is not one that torch writes")
    sealed = archive.fp if len(archive.comment) == SEAL else None
    if archive.testzip() is not None if sealed is None else _digest(sealed) != archive.comment:
        raise zipfile.BadZipFile("it does not have the checksum that it was written with")


def _digest(file: Any) -> bytes:
    """The hash of an open file's content, but for its last bytes, which are this hash and are next to be read."""
    state, left = xxhash.xxh3_128(), file.seek(-SEAL, io.SEEK_END)
    file.seek(0)
    while block := file.read(min(BLOCK, left)):
        state.update(block)
        left -= len(block)
    return state.hexdigest().encode()


def _is_stored(info: zipfile.ZipInfo) -> bool:
    return info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size


def _is_torchscript(archive: zipfile.ZipFile) -> bool:
    return any(map(_names_constants, archive.namelist()))


def _names_constants(name: str) -> bool:
    return re.fullmatch(r"[^/]+/constants\.pkl", name) is not None


def _is_plain(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


class _Module:
    """The attributes of a module in an archive. `stored` names those that are weights."""

    stored: frozenset[str] | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError("a state that only the code of the file can read")
        self.state = state


class _Attributes(pickle.Unpickler):
    """Unpickles the modules of a TorchScript archive into their attributes, without any class or code of the file."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        (constants,) = filter(_names_constants, archive.namelist())
        self.archive, self.root = archive, constants.removesuffix("constants.pkl")
        super().__init__(io.BytesIO(archive.read(f"{self.root}data.pkl")))

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return type("Module", (_Module,), {"stored": self._stored(module, name)})
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == TENSOR:
            return _tensor
        if module == "torch.jit._pickle" and re.fullmatch("build_[a-z]+list", name):
            return list
        if module == "torch" and name.endswith("Storage"):
            number = name.removesuffix("Storage").lower()
            return {"byte": torch.uint8, "char": torch.int8}.get(number) or getattr(torch, number, None)
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        kind, dtype, key, _device, _length = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"a {kind}")
        content = bytearray(self.archive.read(f"{self.root}data/{key}"))
        return torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)

    def _stored(self, module: str, name: str) -> frozenset[str] | None:
        """Which attributes the source of a class declares as parameters and buffers; None where it does not say."""
        source = f"{self.root}code/{module.replace('.', '/')}.py"
        if source not in self.archive.namelist():
            return None
        text = self.archive.read(source).decode()
        declared = re.search(
            rf"^class {re.escape(name)}\(Module\):\s+__parameters__ = \[(.*?)\]\s+__buffers__ = \[(.*?)\]", text, re.M
        )
        return frozenset(re.findall(r'"([^"]+)"', declared[1] + declared[2])) if declared else None


def _tensor(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)  # which raises beyond the storage


def _named(module: _Module, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    # Taken out, so that modules which hold each other, or one many times, do not unfold without end.
    for name, value in module.__dict__.pop("state").items():
        if isinstance(value, _Module):
            yield from _named(value, f"{prefix}{name}.")
        elif isinstance(value, Tensor) and (module.stored is None or name in module.stored):
            yield f"{prefix}{name}", value
