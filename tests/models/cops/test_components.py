"""Each component of CoPS takes along exactly what belongs to it."""

import pytest
import torch

from cops_lightning.core.errors import CheckpointError
from cops_lightning.models.cops import Components, CoPS
from released import released_cops
from tiny import losses_of

STATIC = Components(states=False, classes=False)


def build(state, auxiliary="visa", seed=0, **components) -> CoPS:
    return released_cops(state, None, auxiliary, 48, seed=seed, components=Components(**components))


def names(model: CoPS) -> set[str]:
    return {name for name, _ in model.released_parameters()}


def starting_with(model: CoPS, *prefixes: str) -> set[str]:
    return {name for name in names(model) if name.startswith(prefixes)}


def test_by_default_every_component_is_there(tiny_model):
    assert tiny_model.components == Components()


@pytest.mark.parametrize(
    ("component", "parameters", "losses"),
    [
        ("states", ("t_n", "t_a", "extractor."), {"gather", "scatter"}),
        ("classes", ("vae_",), {"kl", "recon"}),
        ("deep_prompts", ("compound_prompts_text.",), set()),
        ("spatial_weights", (), set()),
    ],
)
def test_what_is_taken_away_takes_its_parameters_and_losses_along(
    component, parameters, losses, tiny_clip_state, tiny_model, images, masks, labels
):
    less = build(tiny_clip_state, **{component: False})
    assert names(tiny_model) - names(less) == (starting_with(tiny_model, *parameters) if parameters else set())
    whole, rest = (set(losses_of(model, images, masks, labels)) for model in (tiny_model, less))
    assert whole - rest == losses


@pytest.mark.parametrize("component", ["states", "classes", "deep_prompts", "spatial_weights"])
def test_gradients_reach_the_declared_parameters_and_no_others(component, tiny_clip_state, images, masks, labels):
    # The MVTec-AD preset, since without a reconstruction loss nothing else would differ.
    model = build(tiny_clip_state, "mvtec", **{component: False})
    losses_of(model, images, masks, labels)["total"].backward()
    # Three blocks follow the first in this text tower of four: deep tokens beyond them go unused.
    used = {id(p) for name, p in model.released_parameters() if not name.startswith("compound")} | {
        id(tokens) for tokens in model.prompt_learner.compound_prompts_text[:3]
    }
    assert {id(p) for p in model.parameters() if p.grad is not None} == used


def test_components_that_stay_have_the_fresh_weights_of_the_whole_model(tiny_clip_state, tiny_model):
    whole = dict(tiny_model.released_parameters())
    for name, parameter in build(tiny_clip_state, states=False).released_parameters():
        assert torch.equal(parameter, whole[name]), name


def test_without_classes_scores_depend_on_no_draw(tiny_clip_state, images):
    model = build(tiny_clip_state, classes=False)
    first, other = (model.score_drawn(model.encode(images), torch.randn(4, 10, 48)) for _ in range(2))
    assert torch.equal(first.image, other.image)
    assert torch.equal(first.patch, other.patch)


def test_with_classes_scores_depend_on_the_draw(tiny_model, images):
    first, other = (tiny_model.score_drawn(tiny_model.encode(images), 30 * torch.randn(4, 10, 48)) for _ in range(2))
    assert not torch.equal(first.patch, other.patch)


def test_without_states_and_classes_all_images_share_one_pair_of_prompts(tiny_clip_state):
    assert build(tiny_clip_state, states=False, classes=False).text_features(None, None).shape == (1, 2, 48)


def test_without_spatial_weights_patch_scores_are_those_of_the_prompts(tiny_clip_state, tiny_model, images):
    weighted = tiny_model.score(images, names="abcd")
    plain = build(tiny_clip_state, spatial_weights=False).score(images, names="abcd")
    # Weights lie in [0, 1] and span some of it in every image.
    assert (weighted.patch <= plain.patch).all()
    assert (weighted.patch < plain.patch).any(dim=1).all()
    # The image score is 0.9 * global + 0.1 * highest patch: the global part is untouched.
    torch.testing.assert_close(
        weighted.image - 0.1 * weighted.patch.amax(1), plain.image - 0.1 * plain.patch.amax(1), atol=1e-6, rtol=0
    )


def test_the_mixed_image_score_lies_between_the_global_and_the_local_one(tiny_clip_state, images):
    mixed, alone, local = (
        build(tiny_clip_state, image_score=kind).score(images, names="abcd") for kind in ("mixed", "global", "local")
    )
    torch.testing.assert_close(local.image, local.patch.amax(dim=1))
    torch.testing.assert_close(mixed.image, 0.9 * alone.image + 0.1 * local.image)
    assert torch.equal(mixed.patch, alone.patch)


def test_static_prompts_lower_their_loss_within_a_few_steps(tiny_clip_state, images, masks, labels):
    model = released_cops(tiny_clip_state, None, "visa", 48, components=STATIC)
    adam = torch.optim.Adam([p for _, p in model.released_parameters()], lr=1e-2)
    history = []
    for _ in range(10):
        loss = losses_of(model, images, masks, labels)["total"]
        adam.zero_grad()
        loss.backward()
        adam.step()
        history.append(loss.item())
    assert history[-1] < history[0]


def test_a_checkpoint_without_a_component_does_not_fit_the_whole_model_and_says_what_is_missing(
    tiny_clip_state, tmp_path
):
    less = build(tiny_clip_state, states=False, seed=3)
    less.save_released(tmp_path / "less.pth")
    assert not starting_with(less, "t_n", "extractor")
    again = build(tiny_clip_state, states=False)
    again.load_released(tmp_path / "less.pth")
    assert torch.equal(again.prompt_learner.ctx_pos, less.prompt_learner.ctx_pos)
    with pytest.raises(CheckpointError, match="missing t_n"):
        build(tiny_clip_state).load_released(tmp_path / "less.pth")
