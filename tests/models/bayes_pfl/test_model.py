"""Bayes-PFL over a CLIP small enough for milliseconds: what it reads, draws and refuses."""

import pytest
import torch

import cops_lightning as cl
from cops_lightning.clip.weights import clip_from_state
from cops_lightning.core.errors import CheckpointError
from cops_lightning.models.bayes_pfl import BayesPFL, Sizes

SMALL = Sizes(prompts=2, context=2, states=3, flows=2)


@pytest.fixture
def make(wordy_clip_state):
    """Bayes-PFL for images of 48 px, with two prompts and two flow steps."""

    def model(weights=None, **options) -> BayesPFL:
        return cl.BayesPFL.from_released(wordy_clip_state, weights, 48, **{"sizes": SMALL, "sample_num": 2, **options})

    return model


def test_every_quarter_of_the_tower_is_read_where_nothing_is_said(make):
    assert make().request.layers == (1, 2, 3, 4)
    assert make(features_list=[4, 2]).request.layers == (2, 4)


def test_scores_depend_on_image_category_and_seed_and_on_no_neighbour(make, images):
    model, names = make(), ["a", "b", "c", "d"]
    scores = model.score(images, names=names, categories=["screw", "pcb1", "pcb1", "wood"]).image
    turned = model.score(images.flip(0), names=names[::-1], categories=["wood", "pcb1", "pcb1", "screw"]).image
    torch.testing.assert_close(turned.flip(0), scores, atol=1e-6, rtol=0)
    assert not torch.equal(model.score(images, names=names, categories=["screw"] * 4).image[1:], scores[1:])
    assert not torch.equal(make(seed=1).score(images, names=names).image, model.score(images, names=names).image)


def test_sizes_are_read_off_the_weights_and_the_stage_off_the_file(make, tmp_path):
    made = make(sizes=Sizes(1, 4, 2, 3), stage=1)
    made.save_released(tmp_path / "one.pth")
    again = make(tmp_path / "one.pth")
    assert again.stage == 1
    shapes = {name: value.shape for name, value in made.released_parameters()}
    assert {name: value.shape for name, value in again.released_parameters()} == shapes


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stage"), [("epoch_post_17_1.pth", 1), ("epoch_post_20_2.pth", 2), ("visa.pth", 2)])
def test_a_file_that_does_not_say_its_stage_is_of_the_one_that_its_name_says(name, stage, make, tmp_path):
    made = make(stage=3 - stage)
    made.save_released(tmp_path / "own.pth")
    torch.save({"MyModel": torch.load(tmp_path / "own.pth", weights_only=True)["MyModel"]}, tmp_path / name)
    assert make(tmp_path / name).stage == stage


def test_a_mapping_may_leave_out_what_is_never_used(make, images):
    trained = make(seed=3)
    learnt = {name: value.detach() for name, value in trained.released_parameters()}
    used = {name: value for name, value in learnt.items() if "decoder" not in name and "p_mu" not in name}
    assert torch.equal(make(used, seed=3).score(images).image, trained.score(images).image)
    with pytest.raises(CheckpointError, match="missing class_mapping.weight"):
        make({name: value for name, value in used.items() if name != "class_mapping.weight"})


@pytest.mark.slow
def test_wrong_checkpoints_are_refused_by_name(make, tmp_path, wordy_clip_state):
    peer = cl.AnomalyCLIP(clip_from_state(wordy_clip_state), image_size=48)
    peer.save_released(tmp_path / "peer.pth")
    with pytest.raises(CheckpointError, match=r"not .* of BayesPFL: it is a released checkpoint of AnomalyCLIP"):
        make(tmp_path / "peer.pth")
    make().save_released(tmp_path / "own.pth")
    with pytest.raises(CheckpointError, match=r"not .* of AnomalyCLIP: it is a released checkpoint of BayesPFL"):
        peer.load_released(tmp_path / "own.pth")
    with pytest.raises(CheckpointError, match="RCA.linear_proj"):
        make(tmp_path / "own.pth", features_list=[2, 4])
    content = torch.load(tmp_path / "own.pth", weights_only=True)
    copy = "PFL_normal.encoder.weight_mean.module.0.bias"
    content["MyModel"][copy] = content["MyModel"][copy] + 1
    torch.save(content, tmp_path / "own.pth")
    with pytest.raises(CheckpointError, match=f"{copy} is not the state_encoder"):
        make(tmp_path / "own.pth")


def test_a_file_of_another_clip_is_refused_by_the_fingerprint_it_was_saved_with(make, tmp_path, wordy_clip_state):
    make().save_released(tmp_path / "own.pth")
    other = {**wordy_clip_state, "token_embedding.weight": wordy_clip_state["token_embedding.weight"] + 0.01}
    with pytest.raises(
        CheckpointError, match=r"own\.pth was trained over another CLIP, with weights [0-9a-f]{12}; those"
    ):
        cl.BayesPFL.from_released(other, tmp_path / "own.pth", 48, sample_num=2)
