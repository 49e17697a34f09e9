"""AnomalyCLIP over a CLIP small enough for milliseconds: what it refuses, shares and leaves to the image."""

import pytest
import torch

import cops_lightning as cl
from cops_lightning.clip.weights import clip_from_state
from cops_lightning.core.errors import CheckpointError, ConfigError
from cops_lightning.models.anomalyclip import AnomalyCLIP, Sizes
from cops_lightning.models.cops import CoPS
from cops_lightning.models.load import load


@pytest.fixture
def make(wordy_clip_state):
    """AnomalyCLIP for images of 48 px, with three context tokens."""

    def model(weights=None, state=wordy_clip_state, **options) -> AnomalyCLIP:
        return cl.AnomalyCLIP.from_released(state, weights, 48, **{"sizes": Sizes(3, 2, 2), **options})

    return model


def test_a_fifth_of_the_layers_or_so_comes_before_the_value_path(make):
    # 19 of the 24 layers of ViT-L are dual: 5 come before. In proportion, 5/24 of four layers are about one.
    assert make().request.values_from == 1
    assert make(dual_layers=3).request == make().request
    assert make(dual_layers=4).request.values_from == 0


def test_sizes_are_read_off_the_weights(make, tmp_path):
    make(sizes=Sizes(5, 3, 1)).save_released(tmp_path / "five.pth")
    shapes = {name: tuple(value.shape) for name, value in make(tmp_path / "five.pth").released_parameters()}
    assert shapes == {
        "ctx_pos": (1, 1, 5, 48),
        "ctx_neg": (1, 1, 5, 48),
        **{f"compound_prompts_text.{layer}": (1, 48) for layer in range(3)},
    }


def test_a_mapping_of_the_learnt_names_alone_is_enough(make, images):
    trained = make(seed=3)
    learnt = {name: value.detach() for name, value in trained.released_parameters()}
    assert torch.equal(make(learnt).score(images).image, trained.score(images).image)


def test_text_is_encoded_anew_only_once_a_weight_has_changed(make, images, monkeypatch):
    model, calls = make(), []
    encode = model.backbone.encode_prompts
    monkeypatch.setattr(model.backbone, "encode_prompts", lambda *given: calls.append(1) or encode(*given))
    first = model.score(images).image
    assert torch.equal(model.score(images).image, first)
    assert len(calls) == 1
    with torch.no_grad():
        model.prompt_learner.ctx_neg.add_(0.1)
    assert not torch.equal(model.score(images).image, first)
    assert len(calls) == 2


def test_several_layers_add_up_in_the_map_and_leave_the_image_score_alone(make, images):
    alone = [make(features_list=[layer]).score(images) for layer in (2, 4)]
    both = make(features_list=[4, 2, 2]).score(images)
    torch.testing.assert_close(both.map, alone[0].map + alone[1].map, atol=1e-6, rtol=0)
    torch.testing.assert_close(both.image, alone[0].image, atol=1e-6, rtol=0)


def test_without_masks_the_image_alone_trains(make, images, masks, labels):
    model = make()
    with_masks, without = (model.losses(images, given, labels) for given in (masks, None))
    assert without.keys() == {"total", "image"}
    assert torch.equal(without["total"], with_masks["image"])
    torch.testing.assert_close(with_masks["total"], with_masks["image"] + with_masks["seg"])


def test_losses_of_images_are_those_of_their_features(make, images, masks, labels):
    model = make()
    assert torch.equal(
        model.losses(images, masks, labels)["total"], model.losses(model.encode(images), masks, labels)["total"]
    )


# ---- what is refused


def test_the_checkpoint_of_another_method_is_refused_by_name(make, wordy_clip_state, tmp_path):
    make().save_released(tmp_path / "anomalyclip.pth")
    cops = CoPS(clip_from_state(wordy_clip_state), image_size=48)
    cops.save_released(tmp_path / "cops.pth")
    with pytest.raises(CheckpointError, match=r"cops\.pth is not .* of AnomalyCLIP: it is a released .* of CoPS"):
        make(tmp_path / "cops.pth")
    with pytest.raises(
        CheckpointError, match=r"anomalyclip\.pth is not .* of CoPS: it is a released .* of AnomalyCLIP"
    ):
        cops.load_released(tmp_path / "anomalyclip.pth")


def test_the_checkpoint_of_another_clip_is_refused_by_its_embeddings(make, wordy_clip_state, tmp_path):
    make().save_released(tmp_path / "one.pth")
    other = {**wordy_clip_state, "token_embedding.weight": wordy_clip_state["token_embedding.weight"] + 0.01}
    with pytest.raises(CheckpointError, match=r"one\.pth was trained over another CLIP: its token_prefix_pos"):
        make(tmp_path / "one.pth", other)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"stranger": torch.ones(1)}, "unexpected stranger"),
        ({"ctx_pos": torch.ones(1, 1, 3, 40)}, r"ctx_pos has shape \(1, 1, 3, 40\), expected \(1, 1, 3, 48\)"),
        ({"ctx_neg": None}, "missing ctx_neg"),
        ({"ctx_pos": torch.ones(1, 1, 30, 48)}, "30 context tokens"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_loaded(make, damage, message):
    model = make()
    before = {name: value.detach().clone() for name, value in model.released_parameters()}
    given = {name: value + 1 for name, value in before.items()} | damage
    with pytest.raises((CheckpointError, ConfigError), match=message):
        model.load_released({name: value for name, value in given.items() if value is not None})
    assert all(torch.equal(value, before[name]) for name, value in model.released_parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dual_layers": 5}, "dual_layers is 5; expected 0 to 4"),
        ({"features_list": [2, 6]}, r"Layers \[2, 6\] are to be read; the image tower has layers 1 to 4"),
        ({"sizes": Sizes(22, 2, 2)}, "the text tower takes 24"),
    ],
)
def test_what_the_towers_have_not_is_refused(make, options, message):
    with pytest.raises(ConfigError, match=message):
        make(**options)


def test_a_released_file_says_which_method_it_is_of(make, tmp_path, images):
    model = make()
    model.save_released(tmp_path / "released.pth")
    loaded = load(tmp_path / "released.pth", auxiliary="visa", backbone=model.backbone, model="anomalyclip")
    assert isinstance(loaded, AnomalyCLIP)
    assert torch.equal(loaded.prompt_learner.ctx_neg, model.prompt_learner.ctx_neg)
