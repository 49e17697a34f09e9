r"""Path templates: how the place of a file says what the file is.

`{category}/{split}/{defect}/{stem}` reads `bottle/test/crack/003.png`. A field stands for part of one path component;
`{stem}` is the file name without extension, and a template that names no extension accepts every image extension.
`{name:a|b}` restricts a field to the words given, `{name:d}` to digits, and `{*}` is a component that does not matter.
A field that occurs twice must have the same value. Case is ignored in everything but the values.
"""

import re
from dataclasses import dataclass, field

from cops_lightning.core.errors import DatasetError
from cops_lightning.data.readers.tree import IMAGE_SUFFIXES

FIELDS = frozenset({"category", "split", "defect", "stem"})
_FIELD = re.compile(r"\{(\*|\w+)(?::([^{}]+))?\}")
_ANY_SUFFIX = rf"\.(?:{'|'.join(IMAGE_SUFFIXES)})"

Pattern = re.Pattern[str]


@dataclass(frozen=True)
class Template:
    """A compiled path template: a pattern for the folder, and one for the file name. DatasetError for other texts."""

    text: str
    folder: Pattern = field(init=False, repr=False, compare=False)
    name: Pattern = field(init=False, repr=False, compare=False)
    parts: tuple[Pattern, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [match[1] for match in _FIELD.finditer(self.text)]
        folder, _, name = self.text.strip("/").rpartition("/")
        unknown = sorted(set(names) - FIELDS - {"*"})
        if unknown or "{stem" not in name or "{stem" in folder or "{" in _FIELD.sub("", self.text):
            what = f"has the unknown field {{{unknown[0]}}}" if unknown else "does not name the file by {stem}"
            raise DatasetError(
                f"The path template '{self.text}' {what}. "
                "Write it like '{category}/{split}/{defect}/{stem}', with these fields only."
            )
        suffix = "" if re.search(r"\.\w+$", _FIELD.sub("", name)) else _ANY_SUFFIX
        object.__setattr__(self, "folder", _pattern(folder))
        object.__setattr__(self, "name", _pattern(name, suffix))
        parts = [_pattern(part) for part in folder.split("/")] if folder else []
        object.__setattr__(self, "parts", (*parts, self.name))

    @property
    def fields(self) -> frozenset[str]:
        """The names of the fields that carry a value."""
        return frozenset(self.folder.groupindex) | frozenset(self.name.groupindex)


def _pattern(text: str, suffix: str = "") -> Pattern:
    pieces, end, seen = [], 0, set()
    for match in _FIELD.finditer(text):
        pieces.append(re.escape(text[end : match.start()]))
        name, words, end = match[1], match[2], match.end()
        value = "[^/]+" if words is None else r"\d+" if words == "d" else "|".join(map(re.escape, words.split("|")))
        if name == "*":
            pieces.append(f"(?:{value})")
        elif name in seen:
            pieces.append(f"(?P={name})")
        else:
            seen.add(name)
            pieces.append(f"(?P<{name}>{value})")
    return re.compile("".join([*pieces, re.escape(text[end:]), suffix]), re.IGNORECASE)
