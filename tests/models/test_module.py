"""The LightningModule keeps trained weights only, and repeats itself."""

from pathlib import Path

import pytest
import torch

from cops_lightning.core.errors import CheckpointError
from cops_lightning.core.seeding import content_names
from cops_lightning.core.types import Batch, Sample
from cops_lightning.models.checkpoint import Stamp, read_checkpoint
from cops_lightning.models.module import CopsTask


@pytest.fixture
def task(tiny_model):
    return CopsTask(tiny_model, Stamp("tiny", tiny_model.backbone.record.fingerprint, {"seed": 0}, ("a/x",)))


@pytest.fixture
def batch(images, masks, labels):
    samples = tuple(
        Sample("a", "x", "test", "d", Path(f"{i}.png"), None, bool(label), f"a/x/{i}")
        for i, label in enumerate(labels.tolist())
    )
    return Batch(images, masks, labels, samples, content_names(images))


def test_the_state_is_what_trains_under_its_released_names(task):
    assert set(task.state_dict()) == {name for name, _ in task.model.trained_parameters()}


def test_a_state_that_lacks_a_key_is_refused(task):
    state = dict(task.state_dict())
    del state["t_n"]
    with pytest.raises(CheckpointError, match="missing t_n"):
        task.load_state_dict(state)


def test_adam_has_the_released_settings_and_every_trained_parameter(task):
    optimiser = task.configure_optimizers()
    (group,) = optimiser.param_groups
    assert (group["lr"], group["betas"]) == (1e-3, (0.5, 0.999))
    assert len(group["params"]) == len(task.state_dict())


def test_test_steps_collect_scores_that_agree_with_the_model(task, batch):
    task.expect_targets(["a"])
    with torch.no_grad():
        task.test_step(batch, 0)
        task.on_test_epoch_end()
    expected = task.model.score(batch.images, names=batch.names)
    assert [image.score for image in task.scored[0]] == expected.image.tolist()
    assert {row.category for row in task.suites[0].compute()} == {"x", "mean"}


def test_a_stamp_survives_the_file(task, tmp_path):
    content = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(content)
    torch.save(content, tmp_path / "a.ckpt")
    read = read_checkpoint(tmp_path / "a.ckpt")
    assert read.stamp == task.stamp
    assert torch.equal(read.weights["t_a"], task.state_dict()["t_a"])


def test_a_checkpoint_of_another_backbone_is_refused_on_resuming(task):
    content = {"state_dict": {}}
    task.on_save_checkpoint(content)
    content["cops_lightning"]["fingerprint"] = "0" * 64
    with pytest.raises(CheckpointError, match="Load the same CLIP"):
        task.on_load_checkpoint(content)
