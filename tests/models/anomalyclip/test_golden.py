"""AnomalyCLIP has the numbers of its authors' released program: tensors it produced on small random weights."""

import pytest
import torch

from cops_lightning.models.anomalyclip import AnomalyCLIP
from goldens import Golden, cases_of, close, folder_of, relative


class OfAnomalyCLIP(Golden):
    """A case of AnomalyCLIP."""

    method, options = AnomalyCLIP, ("image_size", "dual_layers", "features_list")


@pytest.fixture(scope="module", params=cases_of("anomalyclip"))
def case(request: pytest.FixtureRequest) -> OfAnomalyCLIP:
    return OfAnomalyCLIP(folder_of("anomalyclip", request.param))


def test_features_prompts_scores_and_maps_are_the_released_ones(case):
    model, given, expected = (
        case.model(),
        case.arrays("infer_in"),
        case.arrays("infer_out"),
    )
    features = model.encode(given["images"])
    close(features.image, expected["image_features"])
    close(features.patches, expected["patch_features"])
    with torch.no_grad():
        text = model.text_features()
    close(text, expected["text_features"], atol=1e-5)
    close(model(features, text).patch_probabilities, expected["patch_prob"][..., 1], atol=1e-5)
    scores = model.score(given["images"])
    close(scores.image, expected["image_score"], atol=1e-5)
    close(scores.map, expected["anomaly_map"], atol=5e-5)


@pytest.mark.slow
def test_a_batch_equals_batches_of_one_image(case):
    model, images = case.model(), case.arrays("infer_in")["images"]
    together, alone = model.score(images), [model.score(image[None]) for image in images]
    for part in ("image", "patch", "map"):
        close(getattr(together, part), torch.cat([getattr(scores, part) for scores in alone]), atol=1e-6)


def test_a_saved_checkpoint_is_the_released_file_but_for_tensors_that_nothing_reads(case, tmp_path):
    model = case.model()
    model.save_released(tmp_path / "again.pth")
    ours, theirs = (
        torch.load(path, weights_only=True)["prompt_learner"]
        for path in (tmp_path / "again.pth", case.folder / "checkpoint.pth")
    )
    assert {name: (value.shape, value.dtype) for name, value in ours.items()} == {
        name: (value.shape, value.dtype) for name, value in theirs.items()
    }
    read = [name for name in theirs if not name.startswith("compound_prompt_projections")]
    assert all(torch.equal(ours[name], theirs[name]) for name in read)
    images = case.arrays("infer_in")["images"]
    assert torch.equal(case.model(tmp_path / "again.pth").score(images).map, model.score(images).map)


def test_losses_gradients_and_three_adam_steps_are_the_released_ones(case):
    start, given, expected = case.arrays("learner"), case.arrays("train_in"), case.arrays("train_out")
    model = case.model(start)
    parameters = dict(model.released_parameters())
    adam = torch.optim.Adam(parameters.values(), lr=case.sizes["learning_rate"], betas=case.sizes["betas"])
    for step in range(3):
        losses = model.losses(given["images"][step], given["masks"][step], given["labels"][step])
        got = torch.stack([losses[column].detach() for column in case.sizes["loss_columns"]])
        torch.testing.assert_close(got, expected["losses"][step], rtol=1e-4, atol=0)
        adam.zero_grad()
        losses["total"].backward()
        if step == 0:
            for name, parameter in parameters.items():
                assert relative(parameter.grad, expected[f"grad/{name}"]) < 2e-3, name
        adam.step()
    assert {name.removeprefix("param/") for name in expected if name.startswith("param/")} == parameters.keys()
    for name, parameter in parameters.items():
        moved, released = parameter.detach() - start[name], expected[f"param/{name}"] - start[name]
        assert relative(moved, released) < 2e-2, name
