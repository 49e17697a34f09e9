"""The LightningModule in a notebook: a plain Trainer, any logger, any callback, and nothing said beforehand."""

from pathlib import Path

import numpy as np
import pytest
import torch
import wandb
from lightning import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.utilities import move_data_to_device
from torchmetrics.classification import BinaryAccuracy

from cops_lightning import CopsDataModule, CopsModule, Folder, ImageFolder, load
from cops_lightning.core.errors import CheckpointError, ConfigError, CopsError, ProtocolError
from cops_lightning.core.seeding import content_names
from cops_lightning.core.types import Batch, Sample
from cops_lightning.metrics.ranking import ranking_scores
from cops_lightning.models.checkpoint import SAVED, Saved, WholeFiles, read_checkpoint
from cops_lightning.models.cops import CoPS
from tiny import quiet_trainer, write_dataset

# What Lightning itself says about: worker processes, torch's own deprecations, and that the frozen CLIP stays frozen.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:Found .* in eval mode"),
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated"),  # MLflow's
]


@pytest.fixture
def module(tiny_backbone) -> CopsModule:
    """CoPS with fresh weights over the tiny CLIP."""
    return CopsModule("cops", tiny_backbone)


@pytest.fixture(scope="session")
def checkpoint(tiny_backbone, parts, tmp_path_factory) -> Path:
    """What Lightning saves after an epoch on parts."""
    folder = tmp_path_factory.mktemp("checkpoint")
    module = CopsModule("cops", tiny_backbone)
    trainer = quiet_trainer(folder)
    trainer.fit(module, datamodule=Folder(parts))
    trainer.save_checkpoint(folder / "last.ckpt")
    return folder / "last.ckpt"


@pytest.fixture
def batch(images, masks, labels) -> Batch:
    """Four images in memory."""
    samples = tuple(
        Sample("a", "x", "test", "d", Path(f"{i}.png"), None, bool(label), f"a/x/{i}")
        for i, label in enumerate(labels.tolist())
    )
    return Batch(images, masks, labels, samples, content_names(images))


# ---- train, test, load, predict


def logger_of(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    if kind == "mlflow":
        pytest.importorskip("mlflow", reason="mlflow is not installed: pip install cops_lightning[mlflow]")
        from lightning.pytorch.loggers import MLFlowLogger

        return MLFlowLogger(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    # Lightning says "offline" by this variable, and wandb reads it once: what ran before must not have set it up.
    monkeypatch.setenv("WANDB_MODE", "online")
    wandb.teardown()
    return WandbLogger(offline=True, save_dir=folder, project="notebook")


@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_the_ten_lines_of_a_notebook_train_test_save_load_and_predict(kind, parts, tiles, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(tmp_path)
    logger = logger_of(kind, tmp_path, monkeypatch)

    module = CopsModule(backbone="mini")
    trainer = quiet_trainer(tmp_path, max_epochs=2, logger=logger)
    trainer.fit(module, datamodule=Folder(parts, categories=["bolt"]))
    (tested,) = trainer.test(module, datamodule=Folder(tiles), verbose=False)
    trainer.save_checkpoint("last.ckpt")
    again = CopsModule.load_from_checkpoint("last.ckpt")
    predicted = trainer.predict(again, dataloaders=ImageFolder(tiles / "red" / "test"))

    assert {f"tiles/{category}image_auroc" for category in ("", "blue/", "red/")} < set(tested)
    assert sum(map(len, predicted)) == 8
    assert all(0 <= found.score <= 1 for batch in predicted for found in batch)
    if kind == "wandb":
        assert wandb.run.summary["tiles/image_auroc"] == tested["tiles/image_auroc"]
        assert wandb.run.summary["train/total_step"] > 0
        assert wandb.run.config["backbone"]["name"] == "packaged:mini"
        wandb.finish()
        wandb.teardown()
    if kind == "mlflow":
        logged = logger.experiment.get_run(logger.run_id).data
        assert logged.metrics["tiles/image_auroc"] == tested["tiles/image_auroc"]
        assert "train/total_step" in logged.metrics
        assert logged.params["backbone/name"] == "packaged:mini"


def test_numbers_of_a_test_are_returned_and_seen_by_callbacks_for_every_category(module, tiles, tmp_path):
    trainer = quiet_trainer(tmp_path)
    (tested,) = trainer.test(module, datamodule=Folder(tiles), verbose=False)
    assert tested == {name: value.item() for name, value in trainer.callback_metrics.items()}
    metrics = [*(f"image_{m}" for m in ("auroc", "ap", "f1_max")), *(f"pixel_{m}" for m in ("auroc", "ap", "f1_max"))]
    names = [*metrics, "pixel_aupro"]
    assert set(tested) == {f"tiles/{category}{name}" for category in ("", "blue/", "red/") for name in names}
    assert tested["tiles/image_auroc"] == (tested["tiles/blue/image_auroc"] + tested["tiles/red/image_auroc"]) / 2
    normal, anomalous = (
        np.array([found.score for found in module.predict(tiles / "red" / "test" / name, draws="image")])
        for name in ("good", "hole")
    )
    assert tested["tiles/red/image_auroc"] == ranking_scores(normal, anomalous).auroc


def test_several_targets_are_tested_at_once(module, parts, tiles, tmp_path):
    data = CopsDataModule(None, [Folder(parts), Folder(tiles)])
    tested = quiet_trainer(tmp_path).test(module, datamodule=data, verbose=False)
    merged = {name: value for of_loader in tested for name, value in of_loader.items()}
    assert {"parts/image_auroc", "tiles/image_auroc", "parts/nut/pixel_ap", "tiles/red/pixel_ap"} <= set(merged)


def test_a_loader_alone_is_tested_under_the_name_of_its_dataset(module, tiles, tmp_path):
    data = Folder(tiles, image_size=48)
    (tested,) = quiet_trainer(tmp_path).test(module, dataloaders=data.test_dataloader(), verbose=False)
    assert "tiles/image_auroc" in tested


def test_validation_is_seen_by_early_stopping_and_checkpoints(module, parts, tmp_path):
    stopping = EarlyStopping("val/parts/image_auroc", mode="max", patience=0, min_delta=2.0)  # nothing gains 2
    kept = ModelCheckpoint(tmp_path, monitor="val/parts/image_auroc", mode="max", filename="best")
    trainer = quiet_trainer(tmp_path, max_epochs=5, callbacks=[stopping, kept], enable_checkpointing=True)
    trainer.fit(module, datamodule=Folder(parts, val_fraction=0.5))
    assert trainer.current_epoch == 2, "the first epoch counts as a gain, the second is the last"
    assert kept.best_model_path == str(tmp_path / "best.ckpt")
    assert kept.best_model_score >= stopping.best_score
    assert "val/parts/bolt/pixel_aupro" in trainer.callback_metrics
    assert CopsModule.load_from_checkpoint(kept.best_model_path).trained_on == ("parts/bolt", "parts/nut")


def test_validating_alone_gives_the_same_names(module, parts, tmp_path):
    data = Folder(parts, val_fraction=0.5)
    (found,) = quiet_trainer(tmp_path).validate(module, datamodule=data, verbose=False)
    assert "val/parts/nut/image_auroc" in found


def test_further_metrics_appear_per_category_and_in_the_mean(tiny_backbone, tiles, tmp_path):
    metrics = {"image": {"acc": BinaryAccuracy()}, "pixel": {"acc": BinaryAccuracy(threshold=1.0)}}
    module = CopsModule("cops", tiny_backbone, metrics=metrics)
    (tested,) = quiet_trainer(tmp_path).test(module, datamodule=Folder(tiles), verbose=False)
    for category in ("blue", "red"):
        images = module.scored[0]
        right = [(i.score > 0.5) == i.sample.anomalous for i in images if i.sample.category == category]
        assert tested[f"tiles/{category}/image_acc"] == pytest.approx(sum(right) / len(right))
        assert 0.5 < tested[f"tiles/{category}/pixel_acc"] < 1, "nothing is above 1, so what is normal is right"
    both = [tested[f"tiles/{category}/image_acc"] for category in ("blue", "red")]
    assert tested["tiles/image_acc"] == sum(both) / 2


def test_a_further_metric_may_be_a_node_and_nothing_but_a_metric(tiny_backbone):
    node = {"_target_": "torchmetrics.classification.BinaryAccuracy"}
    assert CopsModule("cops", tiny_backbone, metrics={"image": {"acc": node}})._metrics["image"]["acc"]
    with pytest.raises(ConfigError, match=r"metrics.image.acc is a float; expected a torchmetrics Metric"):
        CopsModule("cops", tiny_backbone, metrics={"image": {"acc": 1.0}})
    with pytest.raises(ConfigError, match=r"metrics.images is no level"):
        CopsModule("cops", tiny_backbone, metrics={"images": {"acc": node}})


# ---- optimisers


def test_adam_has_the_released_settings_and_every_trained_parameter(module):
    optimiser = module.configure_optimizers()
    assert isinstance(optimiser, torch.optim.Adam)
    (group,) = optimiser.param_groups
    assert (group["lr"], group["betas"]) == (1e-3, (0.5, 0.999))
    assert len(group["params"]) == len(module.state_dict())


@pytest.mark.parametrize("as_nodes", [True, False])
def test_an_optimizer_and_a_scheduler_of_ones_own_are_used(as_nodes, tiny_backbone, parts, tmp_path):
    if as_nodes:
        optimizer = {"_target_": "torch.optim.SGD", "lr": 0.5}
        scheduler = {"_target_": "torch.optim.lr_scheduler.StepLR", "step_size": 1, "gamma": 0.1}
    else:
        optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.5)  # noqa: E731
        scheduler = lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)  # noqa: E731
    module = CopsModule("cops", tiny_backbone, optimizer=optimizer, scheduler=scheduler)
    trainer = quiet_trainer(tmp_path, max_epochs=2, limit_train_batches=1)
    trainer.fit(module, datamodule=Folder(parts))
    (used,) = trainer.optimizers
    assert type(used) is torch.optim.SGD
    assert used.param_groups[0]["lr"] == pytest.approx(0.005)


def test_a_detector_that_learns_nothing_cannot_be_fitted_and_can_be_tested(tiny_backbone, parts, tiles, tmp_path):
    module = CopsModule("brightness", tiny_backbone)
    assert not module.trains
    assert not module.state_dict()
    with pytest.raises(ConfigError, match="learns nothing, so it cannot be fitted; test it"):
        quiet_trainer(tmp_path).fit(module, datamodule=Folder(parts))
    (tested,) = quiet_trainer(tmp_path).test(module, datamodule=Folder(tiles), verbose=False)
    assert tested["tiles/pixel_auroc"] > 0.9, "what is white stands out"


# ---- one score


def test_an_image_has_one_score_under_any_name_place_batch_and_route(module, tiles, tmp_path):
    files = sorted((tiles / "red" / "test").rglob("*.png"))
    expected = {file.read_bytes(): found.score for file in files for found in module.predict(file)}
    assert len(expected) == len(files)

    copies = tmp_path / "elsewhere"
    copies.mkdir()
    for number, file in enumerate(reversed(files)):
        (copies / f"photo-{number}.png").write_bytes(file.read_bytes())
    close = pytest.approx  # the last bits of a product of matrices change with the size of the batch
    for found in module.model.predict(copies, batch_size=3):
        assert found.score == close(expected[found.path.read_bytes()], abs=1e-6)
    trainer = quiet_trainer(tmp_path)
    for batch in trainer.predict(module, dataloaders=ImageFolder(copies, batch_size=5)):
        for found in batch:
            assert found.score == close(expected[found.path.read_bytes()], abs=1e-6)
    trainer.test(module, datamodule=Folder(tiles, eval_batch_size=3), verbose=False)
    expected = {file.read_bytes(): found.score for file in files for found in module.predict(file, draws="image")}
    tested = {image.sample.image: image.score for image in module.scored[0]}
    for file in files:
        assert tested[file] == close(expected[file.read_bytes()], abs=1e-6)


def test_equal_batches_have_equal_scores_to_the_last_bit_by_every_route(module, tiles, tmp_path):
    folder = tiles / "red" / "test"
    ours = list(module.predict(folder, batch_size=8))
    (theirs,) = quiet_trainer(tmp_path).predict(module, dataloaders=ImageFolder(folder))
    assert [found.score for found in ours] == [found.score for found in theirs]
    assert all((one.map == other.map).all() for one, other in zip(ours, theirs, strict=True))


def test_forward_scores_preprocessed_images(module, batch):
    expected = module.model.score(batch.images, names=batch.names)
    assert torch.equal(module(batch.images).image, expected.image)
    assert torch.equal(module(batch.images, names=batch.names).patch, expected.patch)


def test_predictions_are_moved_as_lightning_moves_them(module, batch):
    with torch.no_grad():
        found = module.predict_step(batch, 0)
    assert move_data_to_device(found, torch.device("cpu"))[0].path == Path("0.png")


# ---- what was trained on is not tested on


def test_what_was_trained_on_is_not_tested_on(module, parts, tiles, tmp_path):
    trainer = quiet_trainer(tmp_path)
    trainer.fit(module, datamodule=Folder(parts, categories=["bolt"]))
    with pytest.raises(ProtocolError, match="parts is not zero-shot: its categories parts/bolt were trained on"):
        trainer.test(module, datamodule=Folder(parts), verbose=False)
    assert "tiles/image_auroc" in trainer.test(module, datamodule=Folder(tiles), verbose=False)[0]
    assert "parts/image_auroc" in trainer.test(module, datamodule=Folder(parts, categories=["nut"]), verbose=False)[0]
    (seen,) = trainer.test(module, datamodule=Folder(parts, evaluate_seen=True), verbose=False)
    assert "parts/image_auroc" in seen


def test_the_same_files_under_another_name_are_found_out(module, parts, tmp_path):
    trainer = quiet_trainer(tmp_path)
    trainer.fit(module, datamodule=Folder(parts))
    (tmp_path / "others").mkdir()
    for category in ("bolt", "nut"):
        (tmp_path / "others" / f"{category}s").symlink_to(parts / category)
    with pytest.raises(ProtocolError, match="others is not zero-shot: 16 of its images were trained on"):
        trainer.test(module, datamodule=Folder(tmp_path / "others"), verbose=False)


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_loaders_without_a_data_module_are_held_to_the_same(module, parts, tmp_path):
    trainer = quiet_trainer(tmp_path)
    data = Folder(parts, image_size=48)
    trainer.fit(module, train_dataloaders=data.train_dataloader())
    assert module.trained_on == ("parts/bolt", "parts/nut")
    with pytest.raises(ProtocolError, match="parts is not zero-shot"):
        trainer.test(module, dataloaders=data.test_dataloader(), verbose=False)


def test_a_checkpoint_remembers_what_it_was_trained_on(checkpoint, parts, tiles, tmp_path):
    again = CopsModule.load_from_checkpoint(checkpoint)
    trainer = quiet_trainer(tmp_path)
    with pytest.raises(ProtocolError, match="parts/bolt, parts/nut were trained on"):
        trainer.test(again, datamodule=Folder(parts), verbose=False)
    assert trainer.test(again, datamodule=Folder(tiles), verbose=False)
    assert trainer.test(again, datamodule=Folder(parts, evaluate_seen=True), verbose=False)


def test_training_may_go_on_with_other_data_and_both_count(checkpoint, tiles, tmp_path):
    again = CopsModule.load_from_checkpoint(checkpoint)
    quiet_trainer(tmp_path).fit(again, datamodule=Folder(tiles))
    assert again.trained_on == ("parts/bolt", "parts/nut", "tiles/blue", "tiles/red")


def test_going_on_from_a_checkpoint_keeps_what_it_was_trained_on(checkpoint, tiny_backbone, tiles, tmp_path):
    module = CopsModule("cops", tiny_backbone)
    quiet_trainer(tmp_path, max_epochs=2).fit(module, datamodule=Folder(tiles), ckpt_path=checkpoint, weights_only=True)
    assert set(module.trained_on) == {"parts/bolt", "parts/nut", "tiles/blue", "tiles/red"}


# ---- checkpoints


def test_the_state_is_what_trains_under_its_released_names_behind_a_prefix(module):
    names = [name for name, _ in module.model.released_parameters()]
    assert list(module.state_dict()) == names
    outer = torch.nn.ModuleDict({"inner": module})
    assert list(outer.state_dict()) == [f"inner.{name}" for name in names]
    assert list(module.state_dict(prefix="a.")) == [f"a.{name}" for name in names]
    assert all(module.state_dict(keep_vars=True)[name].requires_grad for name in names)


def test_a_state_that_lacks_a_key_is_refused(module):
    state = dict(module.state_dict())
    del state["t_n"]
    with pytest.raises(CheckpointError, match="missing t_n"):
        module.load_state_dict(state)


def test_a_checkpoint_holds_trained_weights_and_plain_values_alone(checkpoint, tiny_backbone):
    content = torch.load(checkpoint, weights_only=True)
    own = CopsModule("cops", tiny_backbone)
    assert set(content["state_dict"]) == set(own.state_dict())
    assert content["hyper_parameters"].keys() == {SAVED}
    saved = read_checkpoint(checkpoint).saved
    assert saved.fingerprint == own.model.backbone.record.fingerprint
    assert saved.trained_on == ("parts/bolt", "parts/nut")
    assert Saved.from_plain(saved.as_plain()) == saved


def test_a_checkpoint_alone_gives_the_same_scores(checkpoint, tiles):
    again = CopsModule.load_from_checkpoint(checkpoint)
    loaded = load(checkpoint)
    assert type(again.model) is type(loaded) is CoPS
    files = tiles / "red"
    scores = [found.score for found in again.predict(files)]
    assert scores == [found.score for found in loaded.predict(files)]
    fresh = CopsModule(backbone=again.saved.backbone_node)
    assert scores != [found.score for found in fresh.predict(files)]


def test_weights_of_another_backbone_are_refused_however_they_come(checkpoint, parts, tmp_path):
    with pytest.raises(CheckpointError, match="Load the same CLIP"):
        CopsModule.load_from_checkpoint(checkpoint, backbone="mini")
    with pytest.raises(CheckpointError, match="Load the same CLIP"):
        load(checkpoint, backbone="mini")
    trainer = quiet_trainer(tmp_path, max_epochs=2)
    with pytest.raises(CheckpointError, match="Load the same CLIP"):
        trainer.fit(CopsModule("cops", "mini"), datamodule=Folder(parts), ckpt_path=checkpoint, weights_only=True)


class Fourfold(CoPS):
    """A detector of one's own."""


def test_a_model_made_by_hand_is_given_again_when_its_checkpoint_is_loaded(tiny_backbone, parts, tmp_path):
    backbone = CopsModule("cops", tiny_backbone).model.backbone
    trainer = quiet_trainer(tmp_path)
    trainer.fit(CopsModule(Fourfold(backbone)), datamodule=Folder(parts))
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    with pytest.raises(CheckpointError, match="does not say what its model is. Give it by .*model="):
        CopsModule.load_from_checkpoint(tmp_path / "own.ckpt")
    again = CopsModule.load_from_checkpoint(tmp_path / "own.ckpt", model=Fourfold(backbone, seed=9))
    assert isinstance(again.model, Fourfold)
    assert torch.equal(again.state_dict()["t_n"], trainer.lightning_module.state_dict()["t_n"])
    assert isinstance(load(tmp_path / "own.ckpt", model=Fourfold(backbone)), Fourfold)


def test_a_class_of_ones_own_is_built_only_if_it_is_given_again(tiny_backbone, parts, tmp_path):
    node = {"_target_": f"{__name__}.Fourfold"}
    trainer = quiet_trainer(tmp_path)
    trainer.fit(CopsModule(node, tiny_backbone), datamodule=Folder(parts))
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    for opened in (CopsModule.load_from_checkpoint, load):
        with pytest.raises(CheckpointError, match=r"names '.*Fourfold', which is no model of this library"):
            opened(tmp_path / "own.ckpt")
    assert isinstance(CopsModule.load_from_checkpoint(tmp_path / "own.ckpt", model=node).model, Fourfold)
    assert isinstance(load(tmp_path / "own.ckpt", model=node), Fourfold)


def run(out: str) -> None:
    """What must not happen."""
    Path(out).touch()


HOSTILE = {
    "a function of the system": ("model", {"_target_": "os.system", "command": "touch {out}"}),
    "a class outside the library": ("model", {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}),
    "a path through the library": ("model", {"_target_": "cops_lightning.models.module.torch.hub.load"}),
    "a function of the library that builds what a list says": (
        "model",
        {
            "_target_": "cops_lightning.models.build.build",
            "_args_": [[["_target_", "pathlib.Path.touch"], ["_args_", ["{out}"]]], "x"],
        },
    ),
    "a module that builds what it is given": (
        "model",
        {"_target_": "cops_lightning.models.module.CopsModule", "model": [["_target_", "os.system"]]},
    ),
    "a node within a node": (
        "model",
        {
            "_target_": "cops_lightning.models.cops.model.CoPS",
            "preset": {"_target_": "os.system", "command": "touch {out}"},
        },
    ),
    "a text that becomes a node": (
        "model",
        {
            "_target_": "cops_lightning.models.cops.model.CoPS",
            "preset": "${{oc.create:{{_target_: os.system, command: 'touch {out}'}}}}",
        },
    ),
    "no node": ("model", {"command": "touch {out}"}),
    "a backbone of the system": ("backbone", {"_target_": "os.system", "command": "touch {out}"}),
    "a detector for a backbone": ("backbone", {"_target_": "cops_lightning.models.cops.model.CoPS"}),
}


def filled(value, out: Path):
    if isinstance(value, dict):
        return {key: filled(inner, out) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, out) for inner in value]
    return value.format(out=out) if isinstance(value, str) else value


@pytest.mark.parametrize("what", HOSTILE)
def test_nothing_that_a_checkpoint_names_is_run(what, checkpoint, tmp_path):
    key, node = HOSTILE[what]
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"][SAVED][f"{key}_node"] = filled(node, tmp_path / "ran")
    torch.save(content, tmp_path / "hostile.ckpt")
    for opened in (CopsModule.load_from_checkpoint, load):
        with pytest.raises(CheckpointError, match=f"which is no {key} of this library|does not say"):
            opened(tmp_path / "hostile.ckpt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["backbone", "fingerprint", "trained_on", "run", "model_node"])
def test_what_a_checkpoint_says_of_itself_has_to_be_of_the_right_type(key, checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"][SAVED][key] = 3
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(CheckpointError, match=f"The checkpoint's {key} is 3 .*train anew"):
        read_checkpoint(tmp_path / "odd.ckpt")


def flipped(checkpoint: Path, path: Path) -> Path:
    """A copy with one byte of the largest tensor changed, which torch.load takes as it is."""
    content, weights = bytearray(checkpoint.read_bytes()), torch.load(checkpoint, weights_only=True)["state_dict"]
    content[content.index(max(weights.values(), key=torch.numel).numpy().tobytes()) + 7] ^= 0x41
    path.write_bytes(content)
    torch.load(path, weights_only=True)
    return path


def test_a_checkpoint_with_a_flipped_byte_is_neither_gone_on_from_nor_evaluated(checkpoint, module, parts, tmp_path):
    path = flipped(checkpoint, tmp_path / "last.ckpt")
    for opened in (CopsModule.load_from_checkpoint, load, read_checkpoint):
        with pytest.raises(
            CheckpointError,
            match=r"last\.ckpt cannot be read .*checksum.*go back to an earlier one, or remove it and train again",
        ):
            opened(path)
    for plugins in ([], [WholeFiles()]):
        with pytest.raises(CheckpointError, match=r"last\.ckpt .*checksum that it was written with"):
            quiet_trainer(tmp_path, max_epochs=2, plugins=plugins).fit(module, Folder(parts), ckpt_path=path)


@pytest.mark.parametrize("rate", [1e6, 1e30, float("nan")])
def test_a_training_that_diverges_is_said_to_before_anything_is_saved(rate, tiny_backbone, parts, tmp_path):
    module = CopsModule("cops", tiny_backbone, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=rate))
    keep = ModelCheckpoint(tmp_path / "kept", save_last=True)
    trainer = quiet_trainer(tmp_path, enable_checkpointing=True, callbacks=[keep])
    with pytest.raises(
        CopsError, match=r"went wrong: at step \d+, in epoch 0.*Lower the learning rate \(optimizer\.lr\)"
    ):
        trainer.fit(module, datamodule=Folder(parts))
    assert keep.best_model_path == ""
    assert not list(tmp_path.rglob("*.ckpt"))


def test_weights_that_are_not_finite_are_not_loaded(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["t_n"].view(-1)[0] = float("nan")
    torch.save(content, tmp_path / "nan.ckpt")
    for opened in (CopsModule.load_from_checkpoint, load):
        with pytest.raises(CheckpointError, match="not finite in t_n.*earlier checkpoint"):
            opened(tmp_path / "nan.ckpt")


@pytest.mark.parametrize("place", ["hyper_parameters", "hparams", "module_arguments"])
def test_a_checkpoint_has_no_say_in_the_arguments_of_the_constructor(place, checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    node = {"_target_": "pathlib.Path.touch", "self": {"_target_": "pathlib.Path", "_args_": [str(tmp_path / "ran")]}}
    content.setdefault(place, {})["metrics"] = {"image": {"own": node}}
    torch.save(content, tmp_path / "hostile.ckpt")
    for opened in (CopsModule.load_from_checkpoint, load):
        with pytest.raises(CheckpointError, match="holds arguments of the constructor"):
            opened(tmp_path / "hostile.ckpt")
    assert not (tmp_path / "ran").exists()


class Pickled:
    """Unpickled, it runs."""

    def __reduce__(self):
        return run, (str(self.out),)


def test_a_checkpoint_that_holds_more_than_values_is_not_opened(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["callbacks"] = Pickled()
    content["callbacks"].out = tmp_path / "ran"
    torch.save(content, tmp_path / "hostile.ckpt")
    for opened in (CopsModule.load_from_checkpoint, load):
        with pytest.raises(CheckpointError, match="cannot be read as weights"):
            opened(tmp_path / "hostile.ckpt")
    assert not (tmp_path / "ran").exists()


def test_a_released_file_is_opened_by_load_alone(checkpoint, module, tmp_path):
    module.model.save_released(tmp_path / "released.pth")
    with pytest.raises(CheckpointError, match="is in the released format, which is no checkpoint of Lightning's"):
        CopsModule.load_from_checkpoint(tmp_path / "released.pth")
    with pytest.raises(CheckpointError, match='Add auxiliary="visa"'):
        load(tmp_path / "released.pth")
    loaded = load(tmp_path / "released.pth", auxiliary="mvtec", backbone=module.saved.backbone_node)
    assert loaded.preset.pool == 3
    assert torch.equal(dict(loaded.released_parameters())["t_n"], module.state_dict()["t_n"])


def test_other_files_are_refused_with_what_they_hold(tmp_path):
    torch.save({"weights": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match="is no checkpoint: its top-level keys are weights"):
        CopsModule.load_from_checkpoint(tmp_path / "other.ckpt")


# ---- loggers


def test_a_logger_of_ones_own_gets_the_settings(module, tiles, tmp_path):
    logger = CSVLogger(tmp_path)
    quiet_trainer(tmp_path, logger=logger).test(module, datamodule=Folder(tiles), verbose=False)
    assert logger.experiment.hparams["model"]["_target_"].endswith("CoPS")
    assert logger.experiment.hparams["backbone"]["name"] == "from_weights"


def test_a_plain_trainer_warns_of_nothing_that_is_ours(module, tiles, tmp_path):
    trainer = Trainer(accelerator="cpu", max_epochs=1, default_root_dir=tmp_path, logger=False, log_every_n_steps=1)
    (tested,) = trainer.test(module, datamodule=Folder(tiles))
    assert tested


def test_two_data_sets_of_one_name_do_not_hide_each_other(module, tmp_path):
    first = write_dataset(tmp_path / "a" / "same", ("x",), seed=3)
    second = write_dataset(tmp_path / "b" / "same", ("y",), seed=4)
    trainer = quiet_trainer(tmp_path)
    trainer.fit(module, datamodule=Folder(first))
    assert "same/y/image_auroc" in trainer.test(module, datamodule=Folder(second), verbose=False)[0]
