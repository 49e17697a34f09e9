r"""Path templates: how the place of a file says what the file is.

`{category}/{split}/{defect}/{stem}` reads `bottle/test/crack/003.png`. A field stands for part of one path component;
`{stem}` is the file name without extension, and a template that names no extension accepts every image extension.
`{name:a|b}` restricts a field to the words given, `{name:d}` to digits, and `{*}` is a component that does not matter.
`{folder}` is one that ties an image to its mask and says nothing else. `{images}` and `{masks}` are folders by their
usual names, `{mark}` is what usually tells the file of a mask from that of its image, as in `003_mask.png`. A template
that ends in `{stem}/{*}` is a folder of several masks of one image.
A field that occurs twice must have the same value. Case is ignored in everything but the values.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache

from cops_lightning.core.errors import DatasetError, quoted
from cops_lightning.data.readers.spec import IMAGE_WORDS, MASK_WORDS
from cops_lightning.data.readers.tree import IMAGE_SUFFIXES

FIELDS = frozenset({"category", "split", "defect", "stem", "folder"})
LONGEST, MOST_FREE = 500, 3  # characters of a template; fields of any value in one component, which are tried in turn
_FIELD = re.compile(r"\{(\*|\w+)(?::([^{}]+))?\}")
_ANY_SUFFIX = rf"\.(?:{'|'.join(IMAGE_SUFFIXES)})"


def _any_of(words: frozenset[str]) -> str:
    return "|".join(word.replace("_", "[ _-]?") for word in sorted(words, key=len, reverse=True))


_WORDS = {
    "images": f"(?:{_any_of(IMAGE_WORDS)})(?:[ _-](?:dir|folder))?",
    "masks": rf"(?:\w+[ _-])?(?:{_any_of(MASK_WORDS)})(?:[ _-](?:dir|folder|images?))?",
    "mark": f"[ _.-](?:{_any_of(MASK_WORDS)})",
}
_MARKS = re.compile(rf"(?:{_any_of(MASK_WORDS)})[ _.-]?(.+)|(.+?)[ _.-]?(?:{_any_of(MASK_WORDS)})", re.IGNORECASE)
_IMAGE_MARKS = re.compile(
    rf"(?:{_any_of(IMAGE_WORDS)})[ _.-]?(.+)|(.+?)[ _.-](?:{_any_of(IMAGE_WORDS)})", re.IGNORECASE
)

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
        if unknown := sorted(set(names) - FIELDS - {"*"} - _WORDS.keys()):
            what = f"has the unknown field {{{unknown[0]}}}"
        elif (
            ("{stem" in folder) != self.several or ("{stem" in name) == self.several or "{" in _FIELD.sub("", self.text)
        ):
            what = "does not name the file by {stem}"
        elif len(self.text) > LONGEST or any(_free(part) > MOST_FREE for part in self.text.split("/")):
            what = f"is longer than {LONGEST} characters, or has more than {MOST_FREE} fields of any value in a row"
        else:
            suffix = "" if re.search(r"\.\w+$", _FIELD.sub("", name)) else _ANY_SUFFIX
            object.__setattr__(self, "folder", _pattern(folder))
            object.__setattr__(self, "name", _pattern(name, suffix))
            parts = [_pattern(part) for part in folder.split("/")] if folder else []
            object.__setattr__(self, "parts", (*parts, self.name))
            return
        raise DatasetError(
            f"The path template {quoted(self.text)} {what}. "
            "Write it like '{category}/{split}/{defect}/{stem}', with these fields only."
        )

    @property
    def several(self) -> bool:
        """Whether it names folders of several masks."""
        return self.text.endswith("{stem}/{*}")

    @property
    def fields(self) -> frozenset[str]:
        """The names of the fields that carry a value."""
        return frozenset(self.folder.groupindex) | frozenset(self.name.groupindex)


@lru_cache(maxsize=512)
def template(text: str) -> Template:
    """The template that a text is, compiled once."""
    return Template(text)


def unmarked(stem: str, of_image: bool = False) -> str:
    """The name of a mask's file without what marks it as a mask, or that of an image's file likewise."""
    found = (_IMAGE_MARKS if of_image else _MARKS).fullmatch(stem)
    return stem if found is None else found[1] or found[2]


def _free(part: str) -> int:
    return sum(words in ("", "d") for name, words in _FIELD.findall(part) if name not in _WORDS)


def _pattern(text: str, suffix: str = "") -> Pattern:
    pieces, end, seen = [], 0, set()
    for match in _FIELD.finditer(text):
        pieces.append(re.escape(text[end : match.start()]))
        name, words, end = match[1], match[2], match.end()
        value = "[^/]+" if words is None else r"\d+" if words == "d" else "|".join(map(re.escape, words.split("|")))
        if name == "*" or name in _WORDS:
            pieces.append(f"(?:{_WORDS.get(name, value)})")
        elif name in seen:
            pieces.append(f"(?P={name})")
        else:
            seen.add(name)
            pieces.append(f"(?P<{name}>{value})")
    return re.compile("".join([*pieces, re.escape(text[end:]), suffix]), re.IGNORECASE)
