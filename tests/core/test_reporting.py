"""What is said of an error in one line, and names as they are."""

import io
import sys

import pytest
from rich.table import Table

from cops_lightning.core.errors import DatasetError, described, excerpt
from cops_lightning.core.progress import counted_progress
from cops_lightning.core.reporting import console, print_any_name, say


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (DatasetError("part/003.png cannot be read.\nRestore it."), "part/003.png cannot be read.\nRestore it."),
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError(), "ValueError"),
        (OSError("No space left\nand more that nobody reads"), "OSError: No space left"),
        (OSError(28, "No space left on device", "run/results.csv"), "run/results.csv: No space left on device"),
    ],
)
def test_an_error_of_ours_is_a_sentence_and_of_others_the_kind_counts(error, said):
    assert described(error) == said


def test_an_error_that_quotes_its_input_is_cut():
    assert described(ValueError("x" * 10**6)) == f"ValueError: {excerpt('x' * 10**6)}"


NAMES = ["[/x]", "[bold]parts", "[link=a]b", ":smile:", "a[b]c\\"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_printed_as_it_is(name, capsys):
    table = Table(name, title=name)
    table.add_row(name)
    console().print(name)
    console().print(table)
    assert capsys.readouterr().out.count(name) == 4


def test_no_name_tells_the_terminal_anything(capsys):
    table = Table("\x1b[1mhead\nof two lines", title="\x07title")
    table.add_row("\x1b[31mcell")
    console().print(table)
    console().print("\x1b[2J", soft_wrap=True)
    say("a\nb\x1b[0m")
    out = capsys.readouterr().out
    assert not set(out) & set("\x1b\x07")
    for shown in ("\\x1b[1mhead", "\\x07title", "\\x1b[31mcell", "\\x1b[2J", "a\\nb\\x1b[0m"):
        assert shown in out


@pytest.mark.parametrize("name", NAMES)
def test_a_progress_bar_shows_a_name_as_it_is(name):
    bar = counted_progress()
    bar.add_task(name, total=2)
    bar.console.file = io.StringIO()
    bar.console.print(bar.make_tasks_table(bar.tasks))
    assert name in bar.console.file.getvalue()


def test_standard_output_takes_a_name_that_is_not_unicode(monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    print_any_name()
    print("gut_\udcfc \u96f6")
    console().print("gut_\udcfc")
    sys.stdout.flush()
    assert raw.getvalue() == b"gut_\\udcfc \\u96f6\ngut_\\udcfc\n"
