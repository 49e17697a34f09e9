"""The documentation site: it is built, holds together, loads nothing from elsewhere, and its search finds answers."""

import functools
import os
import re
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import expect

from browser import browsing, in_a_browser
from build_docs import build
from cops_lightning.config.help import groups, known_settings
from cops_lightning.data.catalog import CATALOG
from cops_lightning.report.tables import COLUMNS
from documentation.check import faults, repeated
from documentation.gather import LINK, ROOT, DeadLinkError, moved, pieces, sources

# What a stranger asks, in words of theirs, and the page that says more than the answer among the questions.
QUESTIONS = {
    "resume": "resume.html",
    "calibrate": "calibrate.html",
    "licence": "reference/datasets.html",
    "how do I use my own images": "tutorials/own-images.html",
    "why is my AUROC lower than the paper's": "concepts/protocol.html",
    "which threshold": "tutorials/predict.html",
    "how many seeds": "concepts/significance.html",
    "how do I add my own model": "tutorials/own-parts.html",
    "how do I resume": "resume.html",
    "where are my W&B runs": "tutorials/wandb.html",
    'what does "not shown" mean': "tutorials/report.html",
    "what does undecided mean": "tutorials/report.html",
    "can I use it commercially": "reference/datasets.html",
}


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    build(folder, quiet=True)
    return folder


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(site):
    """The address of the site on a server of files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@in_a_browser
def test_the_search_box_finds_the_answer_to_each_question_of_a_stranger_and_asks_nobody_else(served, site):
    asked: list[str] = []
    answers = (site / "questions.html").read_text()
    with browsing() as browser:
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{served}index.html")
        box, said = page.locator(".md-search__input"), page.locator(".md-search-result__meta")
        results = page.locator(".md-search-result__item > .md-search-result__link")
        box.click()
        for question, answer in QUESTIONS.items():
            box.fill("x")
            box.press("Backspace")
            expect(said).to_have_text(re.compile("Type to start"))
            box.fill(question[:-1])
            box.press(question[-1])  # the key that makes it search
            expect(said).to_have_text(re.compile("matching document"))
            links = results.evaluate_all("all => all.map(link => link.href)")  # of a page, and of its sections
            found = list(dict.fromkeys(re.split(r"[?#]", link.removeprefix(served))[0] for link in links))[:3]
            assert {"questions.html", answer} & set(found), (question, found)
            assert answer == "questions.html" or f'href="{answer}' in answers
    assert any(url.endswith("search_index.json") for url in asked)
    assert [url for url in asked if not url.startswith(served)] == []


def test_the_reference_has_every_setting_column_and_dataset(site):
    page = (site / "reference" / "settings.html").read_text()
    named = set(re.findall(r"<code>([\w.]+)</code>", page))
    assert not set(known_settings()) - named - set(groups())
    rows = re.findall(r"<tr>\s*" + 4 * r"<td>(.*?)</td>\s*", page, re.DOTALL)
    assert len(rows) > 200
    assert not [key for key, of_type, _value, meaning in rows if not (of_type and meaning)]
    columns = (site / "reference" / "results-csv.html").read_text()
    assert all(f"<code>{name}</code>" in columns for name in COLUMNS)
    datasets = (site / "reference" / "datasets.html").read_text()
    assert all(f'id="{name}"' in datasets and spec.licence in datasets for name, spec in CATALOG.items())


def test_a_dead_link_a_missing_anchor_and_a_script_from_elsewhere_are_found(tmp_path):
    (tmp_path / "b.html").write_text("<h1 id='here'></h1>")
    (tmp_path / "a.html").write_text(
        "<a href='b.html#here'></a><a href='b.html#gone'></a><a href='c.html'></a><a href='https://example.org'></a>"
        "<script src='https://example.org/x.js'></script>"
    )
    assert list(faults(tmp_path)) == [
        "a.html links to b.html#gone, where there is no #gone.",
        "a.html links to c.html, which does not exist.",
        "a.html loads https://example.org/x.js, which is not part of the site.",
    ]


def test_a_page_that_the_navigation_lists_twice_is_found():
    assert repeated("nav: [a.md, {Others: [{B: b.md}, {Again: a.md}]}]") == ["a.md"]


def test_every_link_of_a_page_leads_somewhere_in_the_repository_too_and_to_nothing_that_git_ignores():
    places = sources()
    pages = [path for path in (ROOT / "README.md", *places) if path.suffix == ".md"]
    linked = set()
    for page in pages:
        moved(page, "page.md", places)  # raises DeadLinkError
        for part, is_code in pieces(page.read_text(encoding="utf-8")):
            found = () if is_code else LINK.findall(part)
            linked |= {page.parent / target.partition("#")[0] for _, _, target in found if ":" not in target}
    assert len(linked) > 100
    if (ROOT / ".git").exists():
        names = "\n".join(map(os.path.normpath, linked))
        done = subprocess.run(["git", "check-ignore", "--stdin"], cwd=ROOT, input=names, capture_output=True, text=True)
        assert done.stdout == ""


def test_a_link_of_a_page_to_a_file_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("documentation.gather.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("[the licence](LICENSE) and [nothing](gone.md)")
    (tmp_path / "LICENSE").touch()
    with pytest.raises(DeadLinkError, match=r"page\.md links to gone\.md, which is not there"):
        moved(page, "page.md", sources())
    page.write_text("[the licence](LICENSE)")
    assert moved(page, "page.md", sources()) == "the licence"
