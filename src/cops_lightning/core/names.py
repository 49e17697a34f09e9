"""Names of files and folders, made of whatever a user or a file calls something."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable

# On Windows these name devices, whatever suffix follows.
_RESERVED = frozenset({"con", "prn", "aux", "nul", *(f"{port}{i}" for port in ("com", "lpt") for i in range(10))})
_PUNCTUATION = frozenset("-_.+=,() ")
_MARKDOWN = re.compile(r"([\\|*_<>\[\]`&$~])")
_MARKED = re.compile(r".*-[0-9a-f]{10}", re.DOTALL)


def file_name(text: str, limit: int = 120) -> str:
    """A name of at most `limit` bytes that is one component of a path on every usual system, and no other's.

    A text that is such a name already is left as it is. Else what cannot stay is replaced by "_", and ten digits of the
    text's hash follow, so that different texts have different names. Separators, control characters, what is not
    Unicode, hidden and reserved names cannot stay, nor can letters that are not composed (NFC).
    """
    kept = "".join(c if c.isalnum() or c in _PUNCTUATION else "_" for c in unicodedata.normalize("NFC", text))
    plain = kept == text and len(text.encode()) <= limit and not _MARKED.fullmatch(text)
    if plain and text[0:1] not in ("", ".", "-", " ") and text[-1] not in ". " and not _is_reserved(text):
        return text
    return _marked(text, kept, limit)


def file_names(texts: Iterable[str], limit: int = 120) -> dict[str, str]:
    """`file_name` of each text, for names side by side: no two differ only in case, which some file systems ignore."""
    names = {text: file_name(text, limit) for text in texts}
    folded = Counter(name.casefold() for name in names.values())
    return {
        text: name if folded[name.casefold()] == 1 or _MARKED.fullmatch(name) else _marked(text, name, limit)
        for text, name in names.items()
    }


def printable(text: str) -> str:
    """A text in one line with escapes, such as \\udce9 and \\x1b, in place of what is not Unicode, controls a terminal,
    ends a line or turns its direction: for all that is shown. What is printable already stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or unicodedata.category(c) == "Zs" else c.encode("unicode_escape").decode() for c in text
    )


def in_spreadsheet(text: str) -> str:
    """The same for a cell of a table that a spreadsheet may open: one that it would take for a formula has an
    apostrophe before it.
    """
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def in_markdown(text: str) -> str:
    """The same as Markdown that shows it as it is, in the cell of a table too."""
    return _MARKDOWN.sub(r"\\\1", printable(text))


def _marked(text: str, kept: str, limit: int) -> str:
    mark = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:10]
    start = kept.encode()[: limit - len(mark) - 1].decode(errors="ignore").strip(".- ") or "_"
    return f"{'_' if _is_reserved(start) else ''}{start}-{mark}"


def _is_reserved(text: str) -> bool:
    return text.split(".")[0].strip().casefold() in _RESERVED
