"""Whatever a user or a file calls something, its file name stays in its folder, is legal, and is no other's."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cops_lightning.core.names import file_name, file_names, in_markdown, printable

texts = st.text(st.characters(), max_size=300) | st.sampled_from(["aux", "COM1.txt", "..", "a/b", "a_b", "~x", "-rf"])


@pytest.mark.parametrize("name", ["mvtec", "metal_nut", "lr=0.001,seed=3", "brain ct", "Blotchy_099", "零件", "v1.5+a"])
def test_a_usual_name_is_left_as_it_is(name: str):
    assert file_name(name) == name


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("../../../X", "_.._.._X-"),
        ("/abs/X", "_abs_X-"),
        ("a\\b", "a_b-"),
        ("a\0b", "a_b-"),
        ("", "_-"),
        ("..", "_-"),
        (".hidden", "hidden-"),
        ("-rf", "rf-"),
        ("~root", "_root-"),
        ("trailing.", "trailing-"),
        ("nul", "_nul-"),
        ("LPT1.png", "_LPT1.png-"),
        ("gut_\udcfc", "gut__-"),
        ("\u202egnp.exe", "_gnp.exe-"),
        (unicodedata.normalize("NFD", "ü"), "ü-"),
    ],
)
def test_what_cannot_be_a_name_is_replaced_and_marked(text: str, start: str):
    name = file_name(text)
    assert name.startswith(start)
    assert len(name) == len(start) + 10


@given(texts)
def test_a_name_is_one_short_visible_component(text: str):
    name = file_name(text)
    assert 0 < len(name.encode()) <= 120
    assert not set(name) & set('/\\\0:*?"<>|\n~')
    assert name[0] not in ".- "
    assert name[-1] not in ". "
    assert file_name(text) == name


@given(st.lists(texts, unique=True, max_size=20))
def test_different_texts_have_different_names_even_without_regard_to_case(several: list[str]):
    names = file_names(several)
    assert len({name.casefold() for name in names.values()}) == len(several)


def test_a_text_that_looks_like_the_name_of_another_is_marked_too():
    taken = file_name("a/b")
    assert file_name(taken) != taken


def test_a_long_name_is_cut_between_characters_and_keeps_its_own_mark():
    one, other = file_name("面" * 60 + "1"), file_name("面" * 60 + "2")
    assert one != other
    assert one.startswith("面" * 36 + "-")
    assert len(file_name("x" * 300, limit=40)) == 40


def test_names_that_differ_in_case_alone_are_told_apart():
    names = file_names(["Bolt", "bolt", "nut"])
    assert names["nut"] == "nut"
    assert names["Bolt"].startswith("Bolt-")
    assert names["bolt"].startswith("bolt-")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zürich 零件 \u00a0a\u3000b", "Zürich 零件 \u00a0a\u3000b"),
        ("two\nlines\r\n\ttabs", "two\\nlines\\r\\n\\ttabs"),
        ("\x1b[31mred\x9b0m", "\\x1b[31mred\\x9b0m"),
        ("gut_\udcfc", "gut_\\udcfc"),
        ("\u202etxt.exe\u2028", "\\u202etxt.exe\\u2028"),
    ],
)
def test_what_is_shown_of_a_name_is_one_line_that_controls_nothing(text: str, shown: str):
    assert printable(text) == shown
    assert printable(shown) == shown


@given(texts)
def test_a_name_is_one_cell_of_a_markdown_table(text: str):
    cell = in_markdown(text)
    assert len(cell.splitlines()) <= 1
    assert not re.sub(r"\\.", "", cell).count("|")
