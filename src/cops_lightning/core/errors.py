"""The family of errors a user can meet. Each message says what was found, what was expected and what to do."""

import errno
import pickle
import re
import reprlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

LONGEST = 4000  # characters of a message: all that a sentence and a long list of names need
_values = reprlib.Repr()
_values.maxlevel, _values.maxstring, _values.maxother, _values.maxlong = 2, 80, 80, 40


def excerpt(text: object, limit: int = 200, kept: str = "") -> str:
    """What a message quotes of an input: its two ends, with what is not printable spelt out, but `kept`."""
    whole, half = str(text), max(1, limit // 2 - 15)  # less what says how much is left out
    if len(whole) > limit:
        whole = f"{whole[:half]} [{len(whole) - 2 * half} characters] {whole[-half:]}"
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode() for c in whole)


def listed(names: Sequence[str], most: int) -> str:
    """The first names, at most so many, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def quoted(value: object) -> str:
    """What a message quotes of a value that a file holds: its `repr`, cut where it is long or deep."""
    return _values.repr(value)


def not_installed(what: str, package: str) -> str:
    """A sentence on what needs something that pip installs by this name, such as an extra of ours."""
    return f"{what} needs a package that is not installed. Install it by: pip install '{package}'."


def require_modules(what: str, extra: str, modules: Sequence[str]) -> None:
    """Raise ConfigError, with what to install, unless these modules, which an extra of ours brings, are there."""
    if not all(map(find_spec, modules)):
        raise ConfigError(not_installed(what, f"cops_lightning[{extra}]"))


class CopsError(Exception):
    """Base of all errors that stem from input, not from a defect in the code: the console shows only the message.

    A message that quotes a huge input is cut in its middle.
    """

    def __init__(self, message: str) -> None:
        super().__init__(excerpt(message, LONGEST, kept="\n"))


class ConfigError(CopsError):
    """A configuration that names something unknown, leaves something out or contradicts itself."""


class WeightsError(CopsError):
    """CLIP weights that are absent, damaged or of an architecture that CoPS cannot use."""


class CheckpointError(CopsError):
    """A checkpoint whose keys, shapes or backbone differ from the model that should load it."""


class DatasetError(CopsError):
    """A dataset that cannot be found, recognised or read in full."""


class CalibrationError(CopsError):
    """A calibration that is damaged, that another detector made, or for which there are no images."""


class CacheError(CopsError):
    """A feature cache that has no room, or holds a file that is not what was written."""


class ProtocolError(CopsError):
    """A request that would break the zero-shot protocol, such as testing on categories that were trained on."""


class ScoresError(CopsError, ValueError):
    """Scores that are not finite, and so cannot be ranked."""


@contextmanager
def told(error: type[CopsError], what: str, way_out: str) -> Iterator[None]:
    """Whatever the system or a parser raises within becomes `error`: `what`, the reason in brackets, and `way_out`.

    Parsers raise anything at all for bytes that they do not expect, so whatever is raised counts.
    """
    try:
        yield
    except CopsError:
        raise
    except Exception as failure:
        raise error(f"{what} ({reason(failure)}). {way_out}".rstrip()) from None


def reason(failure: BaseException) -> str:
    """What went wrong, in one line: of a pickle never that one could have it run what it holds."""
    if isinstance(failure, OSError) and failure.strerror:
        return failure.strerror
    if isinstance(failure, UnicodeError):
        return "it is not UTF-8"
    if isinstance(failure, MemoryError | RecursionError):
        return "it unfolds to more than there is room for"
    lines = [line for line in str(failure).splitlines() if line.strip()]
    if isinstance(failure, pickle.UnpicklingError):
        named = re.search(r"GLOBAL (\S+)", str(failure))
        if named is None:
            return "it is damaged, or holds more than tensors and plain values"
        return f"it names {excerpt(named[1], 80)}, and only tensors and plain values are read"
    return excerpt(lines[0].strip()) if lines else type(failure).__name__


def described(error: BaseException) -> str:
    """What went wrong: of our own errors the sentence, of the system's the file, of others the kind, and `reason`."""
    if isinstance(error, CopsError) and str(error).strip():
        return str(error).strip()
    about = error.filename if isinstance(error, OSError) and error.filename else type(error).__name__
    return f"{about}: {reason(error)}".removesuffix(f": {about}")


def of_system(failure: OSError) -> str:
    """A sentence on what the system refused, with the path it is about and a way out."""
    ways_out = {
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG): "Free some space, or name a place on another disk",
        (errno.EACCES, errno.EPERM, errno.EROFS): "Change its permissions, or name another place",
        (errno.ENAMETOOLONG,): "Use shorter names",
        (errno.EEXIST, errno.ENOTDIR): "Name a place where no file is in the way",
        (errno.ENOENT,): "Give the path of something that exists",
    }
    way_out = next((way for numbers, way in ways_out.items() if failure.errno in numbers), "Look at that disk")
    where = f"{failure.filename}: " if failure.filename else ""
    return f"{excerpt(where, 1000)}{reason(failure)}. {way_out}, and run the same command again."
