"""What the packaged backbone is pre-trained on: pairs of images, and their captions."""

import re

import cv2
import numpy as np
import pytest

from cops_lightning.demo.canvas import SIDE
from cops_lightning.demo.catalog import CATEGORIES as PACKAGED
from cops_lightning.demo.catalog import DEFECTS as PACKAGED_DEFECTS
from cops_lightning.demo.catalog import defects_of
from cops_lightning.demo.images import LIGHTING, VISIBLE, Streams, afflict, normal_scene
from pretraining.captions import FILLERS, GENERIC, caption_pair, phrases
from pretraining.catalog import CATEGORIES, DEFECTS, OPEN_CATEGORIES, OPEN_DEFECT
from pretraining.pairs import render_pair


def words(*texts: str) -> set[str]:
    return {word for text in texts for word in re.findall(r"[a-z0-9-]+", text.lower())}


def names(categories) -> set[str]:
    return words(*(text for c in categories.values() for text in (c.name, *c.synonyms)))


def test_no_word_of_a_name_or_synonym_is_one_of_an_auxiliary_or_test_category():
    assert not names(CATEGORIES) & names(PACKAGED)


def test_no_filler_or_generic_noun_names_an_auxiliary_or_test_category():
    assert not words(*FILLERS, *GENERIC) & names(PACKAGED)


def test_no_renderer_serves_two_categories():
    renderers = [c.render for c in (*CATEGORIES.values(), *PACKAGED.values())]
    assert len(set(renderers)) == len(renderers)


def test_captions_never_say_the_words_of_held_out_defects():
    secret = words(*(text for d in DEFECTS.values() if d.held_out for text in (d.name, *d.synonyms)))
    spoken = [text for d in DEFECTS.values() if not d.held_out for text in (d.name, *d.synonyms)]
    assert secret
    assert not secret & (words(*phrases(), *spoken) | names(CATEGORIES))


def test_held_out_defects_are_never_shown():
    shown = {d.name for c in CATEGORIES.values() for d in defects_of(c)}
    assert not shown & {d.name for d in PACKAGED_DEFECTS.values() if d.held_out}


@pytest.mark.parametrize("name", ["wood", "abstract object", "mucosa"])
def test_the_captions_of_a_pair_differ_in_the_state_alone(name):
    said = set()
    for index in range(200):
        rng = Streams.of(0, "captions", index).scene
        pair = caption_pair(rng, CATEGORIES[name], DEFECTS["scratch"], ("lo", "ra"))
        assert pair.normal != pair.anomalous
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]|[{}]", pair.normal + " " + pair.anomalous)
        assert pair.defect == bool(re.search("scratch", pair.anomalous))
        assert "scratch" not in pair.normal
        said.add(pair.named)
    assert said == ({False} if name in OPEN_CATEGORIES else {True, False})


@pytest.mark.parametrize("name", tuple(CATEGORIES))
def test_every_category_renders_a_normal_and_an_anomalous_image(name):
    pair = render_pair(0, CATEGORIES[name], 0, defects_of(CATEGORIES[name]), LIGHTING["easy"])
    for image in (pair.normal, pair.anomalous):
        assert image.shape == (SIDE, SIDE, 3)
        assert image.dtype == np.uint8
        assert image.std() > 2  # not blank
    assert pair.mask.any()


@pytest.mark.parametrize("name", ["wood", "mucosa", "abstract texture"])
def test_far_from_the_defect_a_pair_is_identical_light_blur_and_noise_included(name):
    for index in range(6):
        pair = render_pair(0, CATEGORIES[name], index, (OPEN_DEFECT,), LIGHTING["hard"])
        near = cv2.dilate(pair.mask.astype(np.uint8), np.ones((15, 15), np.uint8)).astype(bool)
        assert (pair.normal[~near] == pair.anomalous[~near]).all()
        assert (pair.normal[pair.mask] != pair.anomalous[pair.mask]).any()


@pytest.mark.parametrize("name", ["polyp", OPEN_DEFECT.name])
def test_outside_its_mask_a_defect_changes_nothing(name):
    for index in range(12):
        streams = Streams.of(3, "mucosa", index)
        scene = normal_scene(streams.scene, CATEGORIES["mucosa"])
        picture, mask, _ = afflict(streams.defect, scene, (DEFECTS[name],))
        change = np.abs(picture - scene.picture).max(-1)
        assert not change[~mask].any()
        assert change[mask].max() > VISIBLE


@pytest.mark.parametrize("name", OPEN_CATEGORIES)
def test_the_open_grammar_hardly_ever_repeats_itself(name):
    scenes = (normal_scene(Streams.of(0, name, i).scene, CATEGORIES[name]) for i in range(20))
    assert len({tuple(scene.picture.mean((0, 1)).round(3)) for scene in scenes}) == 20
