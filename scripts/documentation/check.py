"""What was built: every link and anchor inside the site leads somewhere, and no page loads anything from elsewhere."""

import re
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import yaml

# What a browser fetches when it opens a page, by tag and attribute; of <link> by what it is for.
LOADS = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "object": "data",
}
FETCHED = {"stylesheet", "icon", "preconnect", "preload", "prefetch", "dns-prefetch", "modulepreload", "manifest"}
SITE = "https://site.invalid/"  # stands for wherever the site is


class Page(HTMLParser):
    """A page's links, anchors, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and FETCHED & set(given.get("rel", "").split()):
            self.loads.append(given["href"])
        if tag in LOADS and LOADS[tag] in given:
            self.loads.append(given[LOADS[tag]])


def repeated(configuration: str) -> list[str]:
    """The pages that the navigation of an mkdocs.yml lists more than once, which MkDocs itself does not mind."""

    def pages(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for inside in entry.values() if isinstance(entry, dict) else entry:
                yield from pages(inside)

    return [page for page, times in Counter(pages(yaml.safe_load(configuration)["nav"])).items() if times > 1]


def faults(site: Path) -> Iterator[str]:
    """A sentence for each fault of a built site."""
    pages = {
        path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
    }
    for place, page in pages.items():
        if place == "404.html":  # shown at any address, so its links begin at the root
            continue
        for link in dict.fromkeys((*page.links, *page.loads)):
            meant = urljoin(SITE + place, link)
            if not meant.startswith(SITE):
                if link in page.loads and not link.startswith("data:"):
                    yield f"{place} loads {link}, which is not part of the site."
                continue
            path, anchor = unquote(urlsplit(meant).path).lstrip("/"), unquote(urlsplit(meant).fragment)
            path = path + "index.html" if path == "" or path.endswith("/") else path
            if not (site / path).is_file():
                yield f"{place} links to {link}, which does not exist."
            elif path in pages and anchor and not anchor.startswith("__") and anchor not in pages[path].anchors:
                yield f"{place} links to {link}, where there is no #{anchor}."
    for path in sorted(site.rglob("*.css")):
        for address in re.findall(r"url\([\"']?((?:https?:)?//[^)\"']+)", path.read_text(encoding="utf-8")):
            yield f"{path.relative_to(site)} loads {address}, which is not part of the site."
