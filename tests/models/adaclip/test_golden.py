"""AdaCLIP has the numbers of its authors' released program: tensors it produced on small random weights."""

import pytest
import torch

from cops_lightning.models.adaclip import AdaCLIP
from cops_lightning.models.adaclip.fusion import chosen, fused, most_anomalous
from cops_lightning.models.adaclip.prompt_learner import sentences
from goldens import Golden, cases_of, close, folder_of, relative


class OfAdaCLIP(Golden):
    """A case of AdaCLIP."""

    method, options = AdaCLIP, ("image_size", "features_list", "k_clusters")

    def score(self, model: AdaCLIP, which: slice = slice(None)):
        given = self.arrays("infer_in")
        draws = {name: drawn[which] for name, drawn in self.drawn(given, "infer").items()}
        return model.score(given["images"][which], categories=self.sizes["infer_names"][which], draws=draws)

    def step(self, model: AdaCLIP, number: int) -> dict[str, torch.Tensor]:
        given = self.arrays("train_in")
        draws = {name: drawn[number] for name, drawn in self.drawn(given, "train").items()}
        batch = (given[name][number] for name in ("images", "masks", "labels"))
        return model.losses(*batch, categories=self.sizes["train_names"][number : number + 1], draws=draws)


@pytest.fixture(scope="module", params=cases_of("adaclip"))
def case(request: pytest.FixtureRequest) -> OfAdaCLIP:
    return OfAdaCLIP(folder_of("adaclip", request.param))


def test_prompts_features_scores_and_maps_are_the_released_ones(case):
    model, given, expected = case.model(), case.arrays("infer_in"), case.arrays("infer_out")
    for name, tokens in zip(case.sizes["infer_names"], given["tokens"], strict=True):
        assert torch.equal(model._tokenizer(sentences(name)), tokens), name
    features = model.encode(given["images"])
    close(features.image, expected["image_features_plain"], atol=1e-5)
    with torch.no_grad():
        found = model(features, case.sizes["infer_names"])
    close(found.image, expected["image_projected"])
    close(found.patches.flatten(1, 2), expected["patch_projected"].flatten(1, 2))
    close(found.text, expected["text_features"].mT)
    logits = expected["patch_logits"]
    close(found.patch_logits, logits[..., 1] - logits[..., 0], atol=5e-3)
    chosen_there = given["selected_patches"].long()
    assert torch.equal(
        most_anomalous(found.patch_logits.mean(dim=1), case.sizes["k_clusters"]), chosen_there.sort(dim=1).values
    )
    close(fused(chosen(found.patches, chosen_there), given["cluster_labels"].long()), expected["cluster_feature"])
    scores = case.score(model)
    close(scores.image, expected["image_score"])
    close(scores.map, expected["anomaly_map"])


@pytest.mark.slow
def test_a_batch_equals_batches_of_one_image(case):
    model = case.model()
    together = case.score(model)
    alone = [case.score(model, slice(at, at + 1)) for at in range(len(together.image))]
    close(together.image, torch.cat([one.image for one in alone]), atol=1e-6)
    close(together.map, torch.cat([one.map for one in alone]), atol=1e-6)


def test_losses_gradients_and_three_steps_are_the_released_ones(case):
    model, expected, recipe = case.model(), case.arrays("train_out"), case.sizes["optimizer"]
    parameters = dict(model.released_parameters())
    start = {name: value.detach().clone() for name, value in parameters.items()}
    adam = torch.optim.AdamW(
        parameters.values(), lr=recipe["lr"], betas=recipe["betas"], weight_decay=recipe["weight_decay"]
    )
    trained = parameters.keys() - set(case.sizes["no_gradient"])
    for step, prefix in enumerate(("grad/", "grad2/", "grad3/")):
        losses = case.step(model, step)
        got = torch.stack([losses[column].detach() for column in case.sizes["loss_columns"]])
        # Two steps of Adam make much of prompts that round to the neighbouring half. Of the third losses (total, image,
        # focal) the released are 5e-4, 2e-3 and 7e-4 off the same steps in float64; ours are 4e-4, 2e-3 and 8e-4 off
        # the released, with one thread as with four.
        rtol, atol = ((3e-4, 5e-6), (3e-4, 5e-6), (3e-3, 2e-5))[step]
        torch.testing.assert_close(got, expected["losses"][step], rtol=rtol, atol=atol)
        adam.zero_grad()
        losses["total"].backward()
        assert {name for name, value in parameters.items() if value.grad is not None} == trained
        for name in trained:
            assert relative(parameters[name].grad, expected[prefix + name]) < (2e-3, 4e-3, 4e-3)[step], name
        adam.step()
    for name in trained:
        moved, released = parameters[name].detach() - start[name], expected[f"param/{name}"] - start[name]
        assert relative(moved, released) < 2e-2, name


def test_a_saved_checkpoint_is_the_released_file(case, tmp_path):
    model = case.model()
    model.save_released(tmp_path / "again.pth")
    ours, theirs = (
        torch.load(path, weights_only=True) for path in (tmp_path / "again.pth", case.folder / "checkpoint.pth")
    )
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert torch.equal(case.score(case.model(tmp_path / "again.pth")).image, case.score(model).image)
