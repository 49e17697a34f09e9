r"""Path templates: how the place of a file says what the file is.

`{category}/{split}/{defect}/{stem}` reads `bottle/test/crack/003.png`. A field stands for part of one path component;
`{stem}` is the file name without extension, and a template that names no extension accepts every image extension.
`{name:a|b}` restricts a field to the words given, `{name:d}` to digits, and `{*}` is a component that does not matter.
A field that occurs twice must have the same value. Case is ignored in everything but the values.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cops_lightning.core.errors import DatasetError
from cops_lightning.data.tree import IMAGE_SUFFIXES

FIELDS = frozenset({"category", "split", "defect", "stem"})
_FIELD = re.compile(r"\{(\*|\w+)(?::([^{}]+))?\}")
_SUFFIX = "|".join(sorted(IMAGE_SUFFIXES))


@dataclass(frozen=True)
class Template:
    """A compiled path template. Raises DatasetError where the text is not one."""

    text: str
    pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)
    parts: tuple[re.Pattern[str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [match[1] for match in _FIELD.finditer(self.text)]
        unknown = sorted(set(names) - FIELDS - {"*"})
        if unknown or "stem" not in names or "{" in _FIELD.sub("", self.text):
            what = f"has the unknown field {{{unknown[0]}}}" if unknown else "does not name the file by {stem}"
            raise DatasetError(
                f"The path template '{self.text}' {what}. "
                "A template is written like '{category}/{split}/{defect}/{stem}', with these fields only."
            )
        text = self.text.strip("/")
        if not re.search(r"\.\w+$", _FIELD.sub("", text)):
            text += "{.}"
        object.__setattr__(self, "pattern", re.compile(_regex(text, set()), re.IGNORECASE))
        parts = tuple(re.compile(_regex(part, None), re.IGNORECASE) for part in text.split("/"))
        object.__setattr__(self, "parts", parts)

    def match(self, path: str) -> Mapping[str, str] | None:
        """The values of the fields, or None where the path does not fit."""
        found = self.pattern.fullmatch(path)
        return found.groupdict() if found else None

    @property
    def fields(self) -> frozenset[str]:
        """The names of the fields that carry a value."""
        return frozenset(self.pattern.groupindex)


def _regex(text: str, seen: set[str] | None) -> str:
    """The regular expression of a template, or of one component of it where `seen` is None."""
    pieces, end = [], 0
    for match in re.finditer(r"\{(\*|\.|\w+)(?::([^{}]+))?\}", text):
        pieces.append(re.escape(text[end : match.start()]))
        name, words, end = match[1], match[2], match.end()
        if name == ".":
            pieces.append(rf"\.(?:{_SUFFIX})")
            continue
        value = "[^/]+" if words is None else r"\d+" if words == "d" else "|".join(map(re.escape, words.split("|")))
        if name == "*" or seen is None:
            pieces.append(f"(?:{value})")
        elif name in seen:
            pieces.append(f"(?P={name})")
        else:
            seen.add(name)
            pieces.append(f"(?P<{name}>{value})")
    return "".join([*pieces, re.escape(text[end:])])
