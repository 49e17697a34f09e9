"""What each split may contain."""

import re

import pytest

from cops_lightning.demo import CATEGORIES, DEFECTS, categories, defects_of
from cops_lightning.demo.captions import FILLERS, GENERIC, caption_pair, phrases
from cops_lightning.demo.catalog import INDUSTRIAL, OPEN_CATEGORIES, OPEN_DEFECT
from cops_lightning.demo.sampling import Streams

SPLITS = ("pretrain", "auxiliary", "test")


def words(*texts: str) -> set[str]:
    return {word for text in texts for word in re.findall(r"[a-z0-9-]+", text.lower())}


def names(split) -> set[str]:
    return words(*(text for c in categories(split) for text in (c.name, *c.synonyms)))


def test_no_word_of_a_name_or_synonym_occurs_in_two_splits():
    assert not names("pretrain") & names("auxiliary")
    assert not names("pretrain") & names("test")
    assert not names("auxiliary") & names("test")


def test_no_filler_or_generic_noun_names_an_auxiliary_or_test_category():
    assert not words(*FILLERS, *GENERIC) & (names("auxiliary") | names("test"))


def test_no_renderer_serves_two_categories():
    assert len({c.render for c in CATEGORIES.values()}) == len(CATEGORIES)


def test_two_defects_occur_in_test_images_only():
    held_out = {d.name for d in DEFECTS.values() if d.held_out}
    assert held_out == {"thread", "dent"}
    for split in ("pretrain", "auxiliary"):
        assert not held_out & {d.name for c in categories(split) for d in defects_of(c)}
    assert held_out <= {d.name for c in categories("test") for d in defects_of(c)}


def test_captions_never_say_the_words_of_held_out_defects():
    secret = words(*(text for d in DEFECTS.values() if d.held_out for text in (d.name, *d.synonyms)))
    spoken = [text for d in DEFECTS.values() if not d.held_out for text in (d.name, *d.synonyms)]
    assert not secret & (words(*phrases(), *spoken) | names("pretrain"))


def test_the_open_grammar_serves_pre_training_only():
    assert {CATEGORIES[name].split for name in OPEN_CATEGORIES} == {"pretrain"}
    assert OPEN_DEFECT not in {d for c in CATEGORIES.values() for d in defects_of(c)}


def test_the_test_categories_stay_as_fixed_before_the_first_result():
    assert {d: tuple(c.name for c in categories("test", d)) for d in ("easy", "medium", "hard")} == {
        "easy": ("ceramic tile", "perforated screen", "button", "bone radiograph"),
        "medium": ("leather", "gear", "capsule", "brain"),
        "hard": ("wire mesh", "cable", "transistor", "skin"),
    }


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_has_textures_objects_and_medical_look_alikes(split):
    assert {c.kind for c in categories(split)} == {"texture", "object", "medical"}


@pytest.mark.parametrize("name", ["wood", "abstract object", "mucosa"])
def test_the_captions_of_a_pair_differ_in_the_state_alone(name):
    said = set()
    for index in range(200):
        rng = Streams.of(0, "captions", index).scene
        pair = caption_pair(rng, CATEGORIES[name], INDUSTRIAL["scratch"], ("lo", "ra"))
        assert pair.normal != pair.anomalous
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|[{}]", pair.normal + " " + pair.anomalous)
        assert pair.defect == bool(re.search("scratch", pair.anomalous))
        assert "scratch" not in pair.normal
        said.add(pair.named)
    assert said == ({False} if name in OPEN_CATEGORIES else {True, False})
