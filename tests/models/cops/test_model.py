"""Laws of the method that hold whatever the weights are; the numbers themselves are in test_golden."""

from dataclasses import replace

import pytest
import torch

from cops_lightning.clip.weights import clip_from_state
from cops_lightning.core.errors import CheckpointError, ConfigError
from cops_lightning.core.seeding import FIXED, quasi_random_latents
from cops_lightning.models.cops import CoPS, Preset, Readings, Sizes, find_preset
from released import released_cops
from tiny import TINY, losses_of


def build(state, **options) -> CoPS:
    return released_cops(state, None, "visa", 48, **options)


def scores_differ(a, b) -> bool:
    return not torch.allclose(a.map, b.map, atol=1e-7)


def test_scores_lie_between_zero_and_one_and_have_the_documented_shapes(tiny_model, images):
    scores = tiny_model.score(images)
    assert scores.image.shape == (4,)
    assert scores.patch.shape == (4, 36)
    assert scores.map.shape == (4, 48, 48)
    for part in (scores.image, scores.patch, scores.map):
        assert part.min() >= 0
        assert part.max() <= 1


def test_a_score_depends_on_its_image_alone_not_on_batch_order_or_what_was_drawn_before(tiny_model, images):
    # To rounding: a matrix product may add in another order in a batch of another size.
    together = tiny_model.score(images)
    torch.rand(100)
    shuffled = tiny_model.score(images[[2, 0, 3, 1]])
    torch.testing.assert_close(shuffled.image[0], together.image[2], atol=2e-5, rtol=0)
    torch.testing.assert_close(tiny_model.score(images[2:3]).map[0], together.map[2], atol=2e-5, rtol=0)


def test_the_name_of_an_image_decides_its_draws(tiny_model):
    named = [tiny_model.draw_latents([name]) for name in ("a", "a", "b")]
    assert torch.equal(named[0], named[1])
    assert not torch.equal(named[0], named[2])


def test_the_seed_decides_fresh_weights_and_draws(tiny_clip_state, images):
    first, again, other = (build(tiny_clip_state, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.score(images).map, again.score(images).map)
    assert scores_differ(first.score(images), other.score(images))


def test_fresh_weights_follow_the_released_initialisation(tiny_clip_state):
    parameters = dict(build(tiny_clip_state).released_parameters())
    assert parameters["extractor.ln_1.weight"].eq(1).all()
    assert parameters["extractor.mlp.c_fc.bias"].eq(0).all()
    assert parameters["ctx_pos"].std().item() == pytest.approx(0.02, rel=0.15)
    assert parameters["vae_decoder.net.0.weight"].std().item() == pytest.approx(0.02, rel=0.1)
    # Xavier uniform for a (3D, D) matrix: bound sqrt(6 / 4D).
    assert parameters["extractor.attn.in_proj_weight"].abs().max() <= (6 / (4 * 48)) ** 0.5


def test_only_prompts_queries_extractor_and_vae_train(tiny_model, images, masks, labels):
    losses_of(tiny_model, images, masks, labels)["total"].backward()
    trained = {name for name, parameter in tiny_model.named_parameters() if parameter.grad is not None}
    assert not any(name.startswith("backbone") for name in trained)
    assert any(name.startswith("states.extractor") for name in trained)


def test_the_total_is_the_weighted_sum_of_its_parts(tiny_model, images, masks, labels):
    losses = losses_of(tiny_model, images, masks, labels)
    parts = (
        losses["image"] + 4 * losses["patch"] + losses["gather"] + losses["scatter"] + losses["kl"] + losses["recon"]
    )
    torch.testing.assert_close(losses["total"], parts)


def test_without_masks_pixel_losses_are_absent_rather_than_zero(tiny_model, images, labels):
    losses = losses_of(tiny_model, images, None, labels)
    assert set(losses) == {"total", "image", "kl", "recon"}
    torch.testing.assert_close(losses["total"], losses["image"] + losses["kl"] + losses["recon"])


def test_the_visa_preset_has_no_reconstruction_loss(tiny_clip_state, images, masks, labels):
    losses = {
        name: losses_of(released_cops(tiny_clip_state, None, name, 48), images, masks, labels)
        for name in ("visa", "mvtec")
    }
    assert losses["visa"]["recon"] == 0 < losses["mvtec"]["recon"]


@pytest.mark.parametrize(
    ("option", "value"), [("states", "matched"), ("upsampling", "bilinear"), ("distance_range", "batch")]
)
def test_each_reading_of_the_scores_changes_them(option, value, tiny_clip_state, images):
    released, other = (
        build(tiny_clip_state, readings=readings) for readings in (Readings(), Readings(**{option: value}))
    )
    assert scores_differ(released.score(images), other.score(images))


@pytest.mark.parametrize(("option", "value"), [("recon", "matched"), ("states", "matched"), ("deep", "exact")])
def test_each_reading_of_training_changes_the_loss(option, value, tiny_clip_state, images, masks, labels):
    totals = []
    for readings in (Readings(), Readings(**{option: value})):
        model = released_cops(tiny_clip_state, None, "mvtec", 48, readings=readings)
        totals.append(losses_of(model, images, masks, labels)["total"].item())
    assert totals[0] != totals[1]


def test_fixed_latents_are_one_set_for_all_images_and_go_with_the_checkpoint(tiny_clip_state):
    model = build(tiny_clip_state, readings=Readings(latents="fixed"), seed=3)
    drawn = model.draw_latents("abc")
    assert torch.equal(drawn, model.fixed_latents.expand(3, -1, -1))
    assert torch.equal(drawn, build(tiny_clip_state, seed=3).draw_latents([FIXED] * 3)), "whatever the reading"
    other = build(tiny_clip_state, seed=4)
    assert not torch.equal(other.fixed_latents, model.fixed_latents)
    other.load_fixed_draws(model.fixed_draws())
    assert torch.equal(other.fixed_latents, model.fixed_latents)


def test_fixed_latents_are_standard_normal_and_more_even_than_independent_ones():
    drawn = quasi_random_latents(seed=0, samples=64, width=256)
    assert drawn.mean() == pytest.approx(0, abs=0.01)
    assert drawn.std() == pytest.approx(1, abs=0.02)
    assert drawn.mean(dim=0).std() < 0.25 / 8, "independent draws have 1/8"
    correlation = torch.corrcoef(drawn.T).fill_diagonal_(0)
    assert correlation.abs().mean() < 0.2


def test_zero_latents_are_the_mean_of_the_prior(tiny_clip_state):
    assert build(tiny_clip_state, readings=Readings(latents="zero")).draw_latents("ab").abs().max() == 0


@pytest.mark.parametrize("wrong", [torch.zeros(10, 5), torch.full((10, 48), torch.nan)])
def test_fixed_latents_of_a_damaged_checkpoint_are_refused(tiny_clip_state, wrong):
    with pytest.raises(CheckpointError, match="fixed latents have shape"):
        build(tiny_clip_state).load_fixed_draws({"latents": wrong})


def test_global_latents_come_from_torchs_generator_as_in_the_released_program(tiny_clip_state):
    model = build(tiny_clip_state, readings=Readings(latents="global"))
    torch.manual_seed(5)
    expected = torch.randn(4, 10, 48)
    torch.manual_seed(5)
    assert torch.equal(model.draw_latents("abcd"), expected)


def test_a_mapping_may_leave_out_the_vae_encoder_but_nothing_else(tiny_clip_state, tiny_model):
    weights = {name: p.detach() + 1 for name, p in tiny_model.released_parameters() if "vae_encoder" not in name}
    loaded = dict(released_cops(tiny_clip_state, weights, "visa", 48).released_parameters())
    assert all(torch.equal(loaded[name], value) for name, value in weights.items())
    del weights["t_n"]
    with pytest.raises(CheckpointError, match="missing t_n"):
        released_cops(tiny_clip_state, weights, "visa", 48)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"stranger": torch.ones(1)}, "unexpected stranger"),
        ({"t_a": torch.ones(2, 2)}, r"t_a has shape \(2, 2\), expected \(6, 48\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_nothing_is_loaded(damage, message, tiny_model):
    before = {name: p.detach().clone() for name, p in tiny_model.released_parameters()}
    with pytest.raises(CheckpointError, match=message):
        tiny_model.load_released({**{name: value + 1 for name, value in before.items()}, **damage})
    assert all(torch.equal(p, before[name]) for name, p in tiny_model.released_parameters())


def test_a_file_that_is_no_released_checkpoint_says_what_it_holds(tiny_clip_state, tmp_path):
    torch.save({"model": {}}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"other\.pth is not a released checkpoint of CoPS.*keys model\."):
        released_cops(tiny_clip_state, tmp_path / "other.pth", "visa", 48)


def test_an_image_size_that_patches_do_not_divide_names_the_nearest_that_they_do(tiny_clip_state):
    with pytest.raises(ConfigError, match="50.*patch size 8.*use 48 or 56"):
        released_cops(tiny_clip_state, None, "visa", 50)


def test_an_unknown_auxiliary_is_refused(tiny_clip_state):
    with pytest.raises(ConfigError, match="no preset 'btad'; expected one of demo, mvtec, visa"):
        released_cops(tiny_clip_state, None, "btad", 48)


@pytest.mark.parametrize(
    ("name", "value"),
    [("pool", 4), ("pool", 0), ("alpha", 1.5), ("beta", -0.1), ("epochs", -1), ("recon_weight", -1.0)],
)
def test_presets_out_of_range_are_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        replace(Preset(1, 3, 0.5, 0.5, 1.0), **{name: value})


def test_presets_are_those_of_the_paper():
    assert find_preset("visa") == Preset(epochs=10, pool=5, alpha=0.26, beta=0.9, recon_weight=0.0)
    assert find_preset("mvtec") == Preset(epochs=5, pool=3, alpha=0.35, beta=1.0, recon_weight=1.0)
    assert find_preset("demo") == replace(find_preset("visa"), epochs=2, pool=3, beta=0.5)


def test_what_is_not_said_is_the_backbones(tiny_clip_state):
    model = CoPS(clip_from_state(tiny_clip_state))
    assert (model.image_size, model.preset) == (TINY["vision_cfg"]["image_size"], find_preset("visa"))
    assert len(model.prompt_learner.compound_prompts_text) == model.backbone.deep_layers == 8
    assert len(CoPS(model.backbone, sizes=Sizes(deep_layers=2)).prompt_learner.compound_prompts_text) == 2


def test_noise_of_training_is_a_function_of_seed_epoch_and_name(tiny_clip_state, tiny_model):
    whole = tiny_model.training_draws(["a", "b"], epoch=1)["noise"]
    assert torch.equal(tiny_model.training_draws(["b"], epoch=1)["noise"], whole[1:])
    assert whole.std() > 0.5
    for other in (tiny_model.training_draws("a", 2), build(tiny_clip_state, seed=1).training_draws("a", 1)):
        assert not torch.equal(other["noise"], whole[:1])


def test_a_checkpoint_of_a_run_must_be_complete(tiny_model):
    weights = {name: p.detach() + 1 for name, p in tiny_model.released_parameters()}
    tiny_model.load_trained(weights)
    assert all(torch.equal(p, weights[name]) for name, p in tiny_model.released_parameters())
    del weights["vae_encoder.mean.bias"]
    with pytest.raises(CheckpointError, match=r"missing vae_encoder\.mean\.bias"):
        tiny_model.load_trained(weights)


def test_scores_and_losses_read_one_forward_pass(tiny_model, images, masks, labels, monkeypatch):
    passes = []
    forward = tiny_model.forward
    monkeypatch.setattr(tiny_model, "forward", lambda *given: passes.append(given) or forward(*given))
    tiny_model.score(images)
    losses_of(tiny_model, images, masks, labels)
    assert len(passes) == 2
