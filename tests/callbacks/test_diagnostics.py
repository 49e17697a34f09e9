"""What a run leaves for the report: figures of a model over datasets that the test makes."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from cops_lightning.callbacks.diagnostics import DRAW_COLUMNS, Diagnostics, Extent, observe
from cops_lightning.core.seeding import content_names
from cops_lightning.data.datamodules import CopsDataModule, Folder
from cops_lightning.models.cops import Components, CoPS
from cops_lightning.models.module import CopsModule
from tiny import quiet_trainer

# What Lightning itself says about worker processes, and torch's own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec:FutureWarning")


@pytest.fixture
def data(tmp_path):
    """An auxiliary dataset of grey noise, a target of the same kind, and a bright red target."""
    rng = np.random.default_rng(0)
    members = []
    for name, colour in (("parts", (100, 100, 100)), ("same", (100, 100, 100)), ("red", (240, 20, 20))):
        for defect, count in (("good", 12), ("hole", 12)):
            folder = tmp_path / name / "part" / "test" / defect
            folder.mkdir(parents=True)
            for number in range(count):
                noise = rng.normal(0, 12, (48, 48, 3)) + colour
                Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
        members.append(Folder(tmp_path / name))
    made = CopsDataModule(members[0], members[1:], image_size=48)
    made.find()
    return made


def diagnose(model, data, folder, **extent) -> None:
    """Test the model, with the callback."""
    callback = Diagnostics(folder, **extent)
    quiet_trainer(folder, callbacks=[callback]).test(CopsModule(model), datamodule=data, verbose=False)


def test_the_dataset_that_looks_different_lies_further_away(data, tiny_model, tmp_path):
    diagnose(tiny_model, data, tmp_path)
    shift = json.loads((tmp_path / "domain_shift.json").read_text())
    assert shift["auxiliary"] == "parts"
    near, far = shift["targets"]["same"], shift["targets"]["red"]
    for level, rows in (("image", 24), ("patch", 24 * 8)):
        assert near[level]["n_a"] == near[level]["n_b"] == rows
        assert near[level]["frechet"] < far[level]["frechet"]
        assert far[level]["frechet"] > far[level]["floor"]
        assert far[level]["mmd_p"] < 0.01
        assert near[level]["centroid_cosine"] > far[level]["centroid_cosine"]


def test_a_fresh_vae_ignores_the_image_and_its_draws_are_measured_on_every_dataset(data, tiny_model, tmp_path):
    # Fresh weights are N(0, 0.02), so the posterior is close to the prior for every image.
    diagnose(tiny_model, data, tmp_path)
    health = json.loads((tmp_path / "vae_health.json").read_text())
    assert health["active_units"] == 0
    assert health["token_spread"] > 0
    assert set(health["text_spread"]) == set(health["score_spread"]) == {"parts", "same", "red"}
    assert min(health["text_spread"].values()) > 0
    assert set(health["reconstruction"]) == {"parts", "same", "red"}
    assert len(health["kl"]) == len(health["gap"]) == 48
    assert [np.shape(points) for points in health["projection"]["points"].values()] == [(24, 2)] * 3


def test_latent_draws_have_a_line_per_dataset_and_draw(data, tiny_model, tmp_path):
    diagnose(tiny_model, data, tmp_path, images=24, patches=2, draws=3)
    with (tmp_path / "latent_draws.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == DRAW_COLUMNS
    assert [(row["target"], row["draw"]) for row in rows] == [
        (name, str(draw)) for name in ("parts", "same", "red") for draw in range(3)
    ]
    assert all(0 <= float(row["value"]) <= 1 for row in rows)


def test_the_first_draw_is_the_runs_own_and_others_differ(data, tiny_model):
    seen = observe(tiny_model, data, data.targets[0], Extent(images=4, patches=1, draws=2))
    dataset = data.dataset(replace(data.targets[0], test=seen.samples))
    images = torch.stack([dataset[i].image for i in range(len(seen.samples))])
    own = tiny_model.score(images, names=content_names(images)).image.numpy()
    np.testing.assert_allclose(seen.drawn[:, 0], own, atol=1e-6)
    assert (seen.drawn[:, 1] != own).any()


def test_a_model_without_a_vae_leaves_the_domain_shift_alone(data, tiny_model, tmp_path):
    without = Components(states=False, classes=False)
    static = CoPS(tiny_model.backbone, tiny_model.preset, image_size=48, components=without)
    diagnose(static, data, tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.*") if path.is_file()) == ["domain_shift.json"]


def test_looking_leaves_the_model_as_it_was(data, tiny_model, tmp_path):
    tiny_model.train()
    before = {name: value.clone() for name, value in tiny_model.released_parameters()}
    diagnose(tiny_model, data, tmp_path)
    assert tiny_model.training
    assert all(torch.equal(value, before[name]) for name, value in tiny_model.released_parameters())
