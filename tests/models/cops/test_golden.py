"""The numbers are those of the authors' released program: tensors it produced on small random weights."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from conftest import SHARED
from cops_lightning.models.anomaly_map import Scores
from cops_lightning.models.cops import CoPS
from goldens import Golden, close, relative
from released import released_cops

HERE = Path(__file__).parents[2] / "golden"
CASES = {"small": HERE / "small", **{name: SHARED / "golden" / name for name in ("aux_visa", "aux_mvtec")}}
# The preset is named after the dataset trained on; a case says what it was tested on.
KEYS_AND_MORE = "extractor.attn.in_proj_bias"
TRAINED_ON = {"visa": "mvtec", "mvtec": "visa"}


class OfCops(Golden):
    """A case of CoPS."""

    def model(self, weights: dict[str, Tensor] | Path, auxiliary: str) -> CoPS:
        return released_cops(self.arrays("clip"), weights, auxiliary, self.sizes["image_size"])

    def inference_model(self) -> CoPS:
        return self.model(self.folder / "checkpoint.pth", TRAINED_ON[self.sizes["infer_as"]])


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.slow] if name != "small" else []) for name in CASES])
def case(request: pytest.FixtureRequest) -> OfCops:
    folder = CASES[request.param]
    if not folder.is_dir():
        pytest.skip(f"the large golden case {request.param} is not beside this checkout")
    return OfCops(folder)


def score(model: CoPS, images: Tensor, latents: Tensor) -> Scores:
    return model.score_drawn(model.encode(images), latents)


def step_losses(model: CoPS, given: dict[str, Tensor], step: int) -> dict[str, Tensor]:
    images, masks, labels, noise = (given[name][step] for name in ("images", "masks", "labels", "noise"))
    return model.losses(model.encode(images), masks, labels, {"noise": noise})


def test_features_prototypes_and_prompts_are_the_released_ones(case):
    model, given, expected = case.inference_model(), case.arrays("infer_in"), case.arrays("infer_out")
    with torch.no_grad():
        raw = model.backbone.encode_image(given["images"])
        prototypes = model.states(model.encode(given["images"]).patches)
        stacked = torch.stack(prototypes, dim=1)
        text = model.text_features(prototypes, model.classes.prior_bias(given["latents"]))
    close(raw.image, expected["image_features"])
    close(raw.patches, expected["patch_features"])
    close(stacked, expected["prototypes"])
    close(text, expected["text_features"])


def test_scores_and_maps_are_the_released_ones(case):
    given, expected = case.arrays("infer_in"), case.arrays("infer_out")
    scores = score(case.inference_model(), given["images"], given["latents"])
    close(scores.patch, expected["patch_prob"], atol=1e-5)
    close(scores.map, expected["anomaly_map"], atol=1e-5)
    close(scores.image, expected["image_score"], atol=1e-5)


def test_a_batch_of_three_equals_three_batches_of_one(case):
    model, given = case.inference_model(), case.arrays("infer_in")
    together = score(model, given["images"], given["latents"])
    alone = [score(model, given["images"][i : i + 1], given["latents"][i : i + 1]) for i in range(3)]
    for part in ("image", "patch", "map"):
        close(getattr(together, part), torch.cat([getattr(scores, part) for scores in alone]), atol=2e-6)


def test_a_saved_checkpoint_loads_to_the_same_scores_under_the_released_keys(case, tmp_path):
    model, given = case.inference_model(), case.arrays("infer_in")
    model.save_released(tmp_path / "again.pth")
    again = case.model(tmp_path / "again.pth", TRAINED_ON[case.sizes["infer_as"]])
    first, second = (score(m, given["images"], given["latents"]) for m in (model, again))
    assert equal(first, second)
    keys = [
        torch.load(path, weights_only=True)["prompt_learner"].keys()
        for path in (tmp_path / "again.pth", case.folder / "checkpoint.pth")
    ]
    assert set(keys[0]) == set(keys[1])


def equal(a: Scores, b: Scores) -> bool:
    return torch.equal(a.image, b.image) and torch.equal(a.patch, b.patch) and torch.equal(a.map, b.map)


def test_losses_gradients_and_three_adam_steps_are_the_released_ones(case):
    start = case.arrays("learner")
    model = case.model(start, case.sizes["train_as"])
    given, expected = case.arrays("train_in"), case.arrays("train_out")
    parameters = dict(model.released_parameters())
    adam = torch.optim.Adam(parameters.values(), lr=1e-3, betas=(0.5, 0.999))
    for step in range(3):
        losses = step_losses(model, given, step)
        got = torch.stack([losses[column].detach() for column in case.sizes["loss_columns"]])
        torch.testing.assert_close(got, expected["losses"][step], rtol=1e-4, atol=1e-6)
        adam.zero_grad()
        losses["total"].backward()
        if step == 0:
            for name, parameter in parameters.items():
                assert relative(parameter.grad, expected[f"grad/{name}"]) < 3e-4, name
        adam.step()
    # Parameters hardly differ after three steps whatever was done; how far each of them moved does.
    for name, parameter in parameters.items():
        got, released = parameter.detach() - start[name], expected[f"param/{name}"] - start[name]
        if name == KEYS_AND_MORE:
            got, released = without_keys(got), without_keys(released)
        assert relative(got, released) < 5e-3, name


def without_keys(bias: Tensor) -> Tensor:
    """The biases of queries and values. That of keys adds the same to all scores of a query, so no softmax sees it.

    Its gradient is 0; what the released program computes is rounding, which Adam divides by its own size.
    """
    queries, _, values = bias.chunk(3)
    return torch.cat([queries, values])


def test_the_bias_of_keys_has_no_gradient_but_rounding(case):
    _, keys, values = case.arrays("train_out")[f"grad/{KEYS_AND_MORE}"].chunk(3)
    assert keys.norm() < 1e-6 * values.norm()


def test_the_third_golden_batch_has_no_anomalous_pixel_and_leaves_the_anomalous_queries_alone(case):
    model = case.model(case.arrays("learner"), case.sizes["train_as"])
    given = case.arrays("train_in")
    assert not given["masks"][2].any()
    step_losses(model, given, 2)["total"].backward()
    assert model.states.t_a.grad is None
    assert model.states.t_n.grad is not None


def test_every_released_parameter_was_compared(case):
    names = {name for name, _ in case.model(case.arrays("learner"), "visa").released_parameters()}
    assert {key.removeprefix("param/") for key in case.arrays("train_out") if key.startswith("param/")} == names
