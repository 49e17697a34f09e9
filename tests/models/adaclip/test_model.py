"""AdaCLIP over a CLIP small enough for milliseconds: what it reads, draws and refuses."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import cops_lightning as cl
from cops_lightning.clip.weights import clip_from_state
from cops_lightning.core.errors import CheckpointError, ConfigError
from cops_lightning.models.adaclip import AdaCLIP, Sizes
from cops_lightning.models.adaclip.fusion import cluster, fused
from cops_lightning.models.adaclip.prompt_learner import NORMAL_SENTENCES, sentences
from cops_lightning.models.load import load


@pytest.fixture
def make(wordy_clip_state):
    """AdaCLIP for images of 48 px, with two tokens in each of two layers and two clusters."""

    def model(weights=None, state=wordy_clip_state, **options) -> AdaCLIP:
        return cl.AdaCLIP.from_released(state, weights, 48, **{"sizes": Sizes(2, 2), "k_clusters": 2, **options})

    return model


def test_every_quarter_of_the_tower_is_read_where_nothing_is_said(make):
    assert make().layers == (1, 2, 3, 4)
    assert make(features_list=[4, 2]).layers == (2, 4)


def test_a_category_is_named_with_spaces_for_hyphens_in_28_normal_and_20_abnormal_sentences():
    of_scans = sentences("brain-ct")
    assert (NORMAL_SENTENCES, len(of_scans)) == (7 * 4, (7 + 5) * 4)
    assert of_scans[0] == "a bad photo of a brain ct."
    assert of_scans[NORMAL_SENTENCES] == "a bad photo of a damaged brain ct."


def test_scores_depend_on_image_and_category_and_on_no_neighbour(make, images):
    model, names = make(), ["a", "b", "c", "d"]
    scores = model.score(images, names=names, categories=["screw", "pcb1", "pcb1", "wood"])
    turned = model.score(images.flip(0), names=names[::-1], categories=["wood", "pcb1", "pcb1", "screw"])
    torch.testing.assert_close(turned.image.flip(0), scores.image, atol=1e-6, rtol=0)
    torch.testing.assert_close(turned.map.flip(0), scores.map, atol=1e-6, rtol=0)
    assert not torch.equal(model.score(images, names=names, categories=["screw"] * 4).image[1:], scores.image[1:])


@pytest.mark.slow
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 12), st.integers(1, 12))
def test_clusters_count_alike_whatever_their_sizes_and_none_is_empty(seed, clusters, distinct, copies):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(1, 2, distinct, 3, generator=generator).repeat(1, 1, copies, 1)
    labels = cluster(points, clusters, torch.tensor([seed]))
    assert len(labels.unique()) == min(clusters, distinct)
    means = torch.stack([points[0, :, labels[0] == label].mean(dim=(0, 1)) for label in labels.unique()])
    expected = torch.nn.functional.normalize(means.mean(dim=0), dim=0)
    torch.testing.assert_close(fused(points, labels)[0], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [Sizes(1, 3), Sizes(3, 1), Sizes(6, 9)])
def test_sizes_are_read_off_the_weights_even_those_that_exceed_the_towers_or_the_sentences(
    make, images, sizes, tmp_path
):
    made = make(sizes=sizes)
    made.save_released(tmp_path / "own.pth")
    again = make(tmp_path / "own.pth", sizes=None)
    assert again.prompt_learner.sizes == sizes
    assert torch.equal(again.score(images[:1]).map, made.score(images[:1]).map)


@pytest.mark.slow
def test_losses_of_images_are_those_of_their_features_and_means_over_images(make, images, masks, labels):
    model, names = make(), ["a", "b", "c", "d"]
    draws = model.training_draws(names, epoch=0)
    whole = model.losses(model.encode(images), masks, labels, draws)
    single = [
        model.losses(
            images[at : at + 1], masks[at : at + 1], labels[at : at + 1], model.training_draws([name], epoch=0)
        )
        for at, name in enumerate(names)
    ]
    for part, loss in whole.items():
        torch.testing.assert_close(loss, torch.stack([of_image[part] for of_image in single]).mean())
    without = model.losses(images, None, labels, draws)
    assert without.keys() == {"total", "image"}
    torch.testing.assert_close(without["total"], whole["image"])


def test_all_that_is_learnt_gets_a_gradient_but_the_text_prompts_of_the_first_layer(make, images, masks, labels):
    model = make()
    model.losses(images, masks, labels)["total"].backward()
    without = [name for name, value in model.released_parameters() if value.grad is None]
    assert without == ["clip_model.text_prompter.static_prompts.0"]
    assert all(value.grad is None for value in model.backbone.parameters())


# ---- what is refused


@pytest.mark.slow
def test_wrong_checkpoints_are_refused_by_name_and_nothing_is_loaded(make, images, tmp_path, wordy_clip_state):
    model = make()
    before = model.score(images).map
    model.save_released(tmp_path / "own.pth")
    peer = cl.AnomalyCLIP(clip_from_state(wordy_clip_state), image_size=48)
    peer.save_released(tmp_path / "peer.pth")
    with pytest.raises(CheckpointError, match=r"not .* of AdaCLIP: it is a released checkpoint of AnomalyCLIP"):
        model.load_released(tmp_path / "peer.pth")
    with pytest.raises(CheckpointError, match=r"not .* of AnomalyCLIP: it is a released checkpoint of AdaCLIP"):
        peer.load_released(tmp_path / "own.pth")
    with pytest.raises(CheckpointError, match=r"unexpected clip_model\.patch_token_layer\.head\.2\.weight"):
        make(tmp_path / "own.pth", features_list=[2, 4])
    content = torch.load(tmp_path / "own.pth", weights_only=True)
    name = "clip_model.visual_prompter.static_prompts.1"
    for damage, message in (
        ({name: None}, "does not fit AdaCLIP"),
        ({name: torch.ones(2, 40)}, rf"{name} has shape \(2, 40\)"),
        ({"clip_model.cls_token_layer.head.0.bias": None}, r"missing clip_model\.cls_token_layer\.head\.0\.bias"),
        ({"clip_model.stranger": torch.ones(1)}, "unexpected clip_model.stranger"),
    ):
        given = {key: value for key, value in {**content, **damage}.items() if value is not None}
        with pytest.raises(CheckpointError, match=message):
            model.load_released({key: value + 1 for key, value in given.items()})
    assert torch.equal(model.score(images).map, before)


def test_a_file_of_another_clip_is_refused_by_the_fingerprint_it_was_saved_with(make, tmp_path, wordy_clip_state):
    make().save_released(tmp_path / "own.pth")
    other = {**wordy_clip_state, "token_embedding.weight": wordy_clip_state["token_embedding.weight"] + 0.01}
    with pytest.raises(
        CheckpointError, match=r"own\.pth was trained over another CLIP, with weights [0-9a-f]{12}; those"
    ):
        make(tmp_path / "own.pth", other)


def test_layers_that_the_tower_has_not_are_refused(make):
    with pytest.raises(ConfigError, match=r"Layers \[2, 6\] are to be read; the image tower has layers 1 to 4"):
        make(features_list=[2, 6])


def test_a_released_file_says_which_method_it_is_of(make, tmp_path):
    model = make(sizes=Sizes())
    model.save_released(tmp_path / "released.pth")
    loaded = load(tmp_path / "released.pth", auxiliary="visa", backbone=model.backbone)
    assert isinstance(loaded, AdaCLIP)
