"""What each split may contain."""

import re

import pytest

from cops_lightning.demo.catalog import CATEGORIES, DEFECTS, categories, defects_of


def words(*texts: str) -> set[str]:
    return {word for text in texts for word in re.findall(r"[a-z0-9-]+", text.lower())}


def names(split) -> set[str]:
    return words(*(text for c in categories(split) for text in (c.name, *c.synonyms)))


def test_no_word_of_a_name_or_synonym_occurs_in_two_splits():
    assert not names("auxiliary") & names("test")


def test_every_category_is_in_one_split():
    assert (*categories("auxiliary"), *categories("test")) == tuple(CATEGORIES.values())


def test_no_renderer_serves_two_categories():
    assert len({c.render for c in CATEGORIES.values()}) == len(CATEGORIES)


def test_two_defects_occur_in_test_images_only():
    held_out = {d.name for d in DEFECTS.values() if d.held_out}
    assert held_out == {"thread", "dent"}
    assert not held_out & {d.name for c in categories("auxiliary") for d in defects_of(c)}
    assert held_out <= {d.name for c in categories("test") for d in defects_of(c)}


def test_the_test_categories_stay_as_fixed_before_the_first_result():
    assert {d: tuple(c.name for c in categories("test", d)) for d in ("easy", "medium", "hard")} == {
        "easy": ("ceramic tile", "perforated screen", "button", "bone radiograph"),
        "medium": ("leather", "gear", "capsule", "brain"),
        "hard": ("wire mesh", "cable", "transistor", "skin"),
    }


@pytest.mark.parametrize("split", ["auxiliary", "test"])
def test_every_split_has_textures_objects_and_medical_look_alikes(split):
    assert {c.kind for c in categories(split)} == {"texture", "object", "medical"}
