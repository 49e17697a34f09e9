"""All pages of the site in one folder: those of docs/, READMEs from elsewhere, and what is generated from the code."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from documentation.reference import generated

ROOT = Path(__file__).parents[2]
# Pages that lie beside what they are about.
ELSEWHERE = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "RELEASING.md": "releasing.md",
    "examples/own/README.md": "tutorials/own-parts.md",
    "src/cops_lightning/demo/mini/README.md": "mini.md",
}
# The search shows what explains something before what a study of it found.
LAST = "---\nsearch:\n  boost: 0.2\n---\n\n"
# What is behind a page that is made from the code: where the page's readers in the repository are sent.
BEHIND = {
    "conf": "reference/settings.md",
    "src/cops_lightning/cli": "reference/commands.md",
    "src/cops_lightning/data/catalog.yaml": "reference/datasets.md",
    "src/cops_lightning/report/tables.py": "reference/results-csv.md",
    "src/cops_lightning/report/published.csv": "reference/published.md",
    "examples": "tutorials/scripts.md",
}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```", re.DOTALL)


class DeadLinkError(Exception):
    """A link of a page that leads nowhere."""


def sources() -> dict[Path, str]:
    """Every file of the checkout that the site shows, and its place there."""
    found = {ROOT / name: place for name, place in ELSEWHERE.items()}
    for path in sorted((ROOT / "experiments").rglob("README.md")):
        name = path.parent.relative_to(ROOT / "experiments").as_posix()
        found[path] = "experiments/index.md" if name == "." else f"experiments/{name}.md"
    for path in sorted((ROOT / "docs").rglob("*")):
        if path.is_file() and path.suffix != ".html":  # the example report's own page, beside its Markdown
            place = path.relative_to(ROOT / "docs").as_posix()
            found[path] = re.sub(r"(^|/)README\.md$", r"\1index.md", place)
    return found


def gather(folder: Path) -> list[str]:
    """Write all pages below `folder`, which is emptied, and return their places. Raises DeadLinkError."""
    shutil.rmtree(folder, ignore_errors=True)
    places, made = sources(), generated()
    missing = set(BEHIND.values()) - made.keys()
    assert not missing, f"nothing makes {missing}"
    for path, place in places.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            head = LAST if place.startswith("experiments/") else ""
            target.write_text(head + moved(path, place, places), encoding="utf-8")
        else:
            shutil.copyfile(path, target)
    for place, text in made.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text, encoding="utf-8")
    return sorted({*places.values(), *made})


def moved(path: Path, place: str, places: dict[Path, str]) -> str:
    """The text of a page with its links as they are from its new place.

    A link to what a page is made from leads to that page, one to another file that the site does not show becomes its
    text. Raises DeadLinkError for one that leads nowhere in the repository, where pages are read too.
    """
    places = places | {ROOT / name: made for name, made in BEHIND.items()}
    text = path.read_text(encoding="utf-8")

    def link(match: re.Match[str]) -> str:
        mark, words, target = match.groups()
        file, hash_, anchor = target.partition("#")
        if not file or re.match(r"[a-z]+:", target):
            return match[0]
        meant = Path(os.path.normpath(path.parent / file))
        if not meant.exists():
            raise DeadLinkError(f"{path.relative_to(ROOT)} links to {target}, which is not there.")
        new = places.get(meant) or places.get(meant / "README.md")
        if new is not None:
            return f"{mark}[{words}]({os.path.relpath(new, Path(place).parent)}{hash_}{anchor})"
        return words

    return "".join(part if is_code else LINK.sub(link, part) for part, is_code in pieces(text))


def pieces(text: str) -> Iterator[tuple[str, bool]]:
    """The parts of a page, and whether each is a block of code."""
    at = 0
    for match in CODE.finditer(text):
        yield text[at : match.start()], False
        yield match[0], True
        at = match.end()
    yield text[at:], False
