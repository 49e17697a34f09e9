"""The documentation site: it is built, holds together, loads nothing from elsewhere, and its search finds answers."""

import json
import re
from pathlib import Path

import pytest

from build_docs import build
from cops_lightning.config.help import groups, known_settings
from cops_lightning.data.catalog import CATALOG
from cops_lightning.report.tables import COLUMNS
from documentation.check import faults
from documentation.gather import DeadLinkError, moved, sources

# What a stranger asks, in words of theirs, and the page that says more than the answer among the questions.
QUESTIONS = {
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


@pytest.fixture(scope="session")
def search(site):
    """The pages for words, best first: the index of the site in the library that its search runs in a browser."""
    from lunr import lunr

    content = json.loads((site / "search" / "search_index.json").read_text())
    options = content["config"]
    assert set(options["pipeline"]) == {"trimmer", "stopWordFilter", "stemmer"}  # lunr's own

    def words(text: str) -> str:
        return re.sub(options["separator"], " ", re.sub(r"<[^>]+>|[\"'?]", " ", text))

    documents = [
        {"location": of["location"], **{key: words(of[key]) for key in ("title", "text")}} for of in content["docs"]
    ]
    fields = [{"field_name": key, "boost": options["fields"][key]["boost"]} for key in ("title", "text")]
    index = lunr(ref="location", fields=fields, documents=documents)
    return lambda asked: list(dict.fromkeys(found["ref"].partition("#")[0] for found in index.search(words(asked))))


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_search_finds_the_answer_to_each_question_of_a_stranger_among_its_first_three_pages(search, site, question):
    found = search(question)[:3]
    assert {"questions.html", QUESTIONS[question]} & set(found), found
    answers = (site / "questions.html").read_text()
    assert QUESTIONS[question] == "questions.html" or f'href="{QUESTIONS[question]}' in answers


def test_the_reference_has_every_setting_column_and_dataset(site):
    page = (site / "reference" / "settings.html").read_text()
    named = set(re.findall(r"<code>([\w.]+)</code>", page))
    assert not set(known_settings()) - named - set(groups())
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


def test_a_link_of_a_page_to_a_file_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("documentation.gather.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("[the licence](LICENSE) and [nothing](gone.md)")
    (tmp_path / "LICENSE").touch()
    with pytest.raises(DeadLinkError, match=r"page\.md links to gone\.md, which is neither a file nor a page"):
        moved(page, "page.md", sources(), set())
    page.write_text("[the licence](LICENSE)")
    assert moved(page, "page.md", sources(), set()) == "the licence"
