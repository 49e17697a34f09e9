"""Bayes-PFL has the numbers of its authors' released program: tensors it produced on small random weights."""

from dataclasses import replace

import pytest
import torch

from cops_lightning.models.bayes_pfl import BayesPFL
from goldens import Golden, cases_of, close, folder_of, relative

# A shift within a softmax: its gradient is rounding, which Adam divides by its own size.
SHIFT = "fuse.compress.bias"


class OfBayesPFL(Golden):
    """A case of Bayes-PFL."""

    method, options = BayesPFL, ("image_size", "features_list", "sample_num")

    def score(self, model: BayesPFL, which: slice = slice(None)):
        given = self.arrays("infer_in")
        draws = self.drawn(given, "infer")
        draws["noise_context"] = draws["noise_context"][which]
        return model.score(given["images"][which], categories=self.sizes["infer_names"][which], draws=draws)

    def step(self, model: BayesPFL, number: int) -> dict[str, torch.Tensor]:
        given = self.arrays("train_in")
        draws = {name: drawn[number] for name, drawn in self.drawn(given, "train").items()}
        batch = (given[name][number] for name in ("images", "masks", "labels"))
        return model.losses(*batch, categories=self.sizes["train_names"][number], draws=draws)


@pytest.fixture(scope="module", params=cases_of("bayes_pfl"))
def case(request: pytest.FixtureRequest) -> OfBayesPFL:
    return OfBayesPFL(folder_of("bayes_pfl", request.param))


def test_features_prompts_scores_and_maps_are_the_released_ones(case):
    model, given, expected = case.model(), case.arrays("infer_in"), case.arrays("infer_out")
    features = model.encode(given["images"])
    close(features.image, expected["image_features"])
    close(features.patches, expected["patch_tokens"])
    with torch.no_grad():
        drawn = (given[name] for name in case.sizes["draws"]["infer"])
        text = model.text_features(features.image, case.sizes["infer_names"], *drawn)
    for flow in ("context", "normal", "abnormal"):
        close(getattr(text, flow).z, expected[f"latent_{flow}"])
    close(text.features.flatten(1, 2), expected["text_features"])
    for stage in (1, 2):
        model.stage = stage
        scores = case.score(model)
        close(scores.image, expected[f"image_score_inductive_stage{stage}"], atol=1e-5)
        close(scores.map, expected["anomaly_map"], atol=1e-5)


@pytest.mark.slow
def test_a_batch_equals_batches_of_one_image(case):
    model = case.model()
    together = case.score(model)
    alone = [case.score(model, slice(at, at + 1)) for at in range(len(together.image))]
    close(together.image, torch.cat([one.image for one in alone]), atol=1e-6)
    close(together.map, torch.cat([one.map for one in alone]), atol=1e-6)


def test_losses_gradients_rates_and_three_steps_of_the_first_stage_are_the_released_ones(case):
    model, expected, per_epoch = case.model(), case.arrays("train_out"), case.sizes["steps_per_epoch"]
    model.preset = replace(model.preset, epochs=case.sizes["epochs"], first_stage=case.sizes["epochs"])
    parameters = dict(model.released_parameters())
    start = {name: value.detach().clone() for name, value in parameters.items()}
    adam = torch.optim.Adam(model.parameter_groups(), lr=1e-3, betas=case.sizes["optimizer"]["betas"])
    trained = {name.removeprefix("grad/") for name in expected if name.startswith("grad/")}
    for step in range(3):
        factor = model.rate_factor(step, per_epoch)
        for group in adam.param_groups:
            group["lr"] = 1e-3 * group["scale"] * factor
        rates = sorted({group["lr"] for group in adam.param_groups})
        assert rates == pytest.approx(sorted(set(expected["learning_rates"][step].tolist())), rel=1e-6)
        losses = case.step(model, step)
        got = torch.stack([losses[column].detach() for column in case.sizes["loss_columns"]])
        torch.testing.assert_close(got, expected["losses"][step], rtol=1e-4, atol=0)
        adam.zero_grad()
        losses["total"].backward()
        assert {name for name, value in parameters.items() if value.grad is not None} == trained
        if step == 0:
            for name in trained:
                assert relative(parameters[name].grad, expected[f"grad/{name}"]) < 2e-3, name
        adam.step()
    for name in trained:
        moved, released = parameters[name].detach() - start[name], expected[f"param/{name}"] - start[name]
        assert relative(moved, released) < 2e-3, name


def test_three_steps_of_the_second_stage_are_the_released_ones(case):
    model, expected = case.model(), case.arrays("train_out")
    parameters = dict(model.released_parameters())
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(expected.get(f"param/{name}", value))
    start = {name: value.detach().clone() for name, value in parameters.items()}
    model.start_epoch(model.preset.turn, adam := torch.optim.Adam(parameters.values(), lr=1e-4, betas=(0.5, 0.999)))
    trained = [name.removeprefix("stage2/param/") for name in expected if name.startswith("stage2/param/")]
    for step in range(3):
        losses = case.step(model, step)
        assert losses["total"].item() == pytest.approx(expected["stage2/losses"][step].item(), rel=1e-4)
        adam.zero_grad()
        losses["total"].backward()
        assert {name for name, value in parameters.items() if value.grad is not None} == set(trained)
        if step == 0:
            for name in set(trained) - {SHIFT}:
                assert relative(parameters[name].grad, expected[f"stage2/grad/{name}"]) < 2e-3, name
        adam.step()
    for name in set(trained) - {SHIFT}:
        moved, released = parameters[name].detach() - start[name], expected[f"stage2/param/{name}"] - start[name]
        assert relative(moved, released) < 2e-2, name


def test_a_saved_checkpoint_is_the_released_file_and_the_stage(case, tmp_path):
    model = case.model()
    model.save_released(tmp_path / "again.pth")
    ours, theirs = (
        torch.load(path, weights_only=True) for path in (tmp_path / "again.pth", case.folder / "checkpoint.pth")
    )
    assert ours["stage"] == 2
    assert ours["MyModel"].keys() == theirs["MyModel"].keys()
    assert all(torch.equal(ours["MyModel"][name], value) for name, value in theirs["MyModel"].items())
    assert torch.equal(case.score(case.model(tmp_path / "again.pth")).image, case.score(model).image)
