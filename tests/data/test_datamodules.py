"""Data modules: what is trained on, validated on, tested and predicted, and with which settings."""

import inspect
from pathlib import Path
from typing import Any

import albumentations
import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from PIL import Image

from cops_lightning.core.errors import ConfigError, DatasetError, ProtocolError
from cops_lightning.core.types import Batch, Sample
from cops_lightning.data import datamodules as module_under_test
from cops_lightning.data.catalog import BENCHMARK, CATALOG, expand_targets
from cops_lightning.data.datamodules import (
    PUBLISHED,
    AnomalyDataModule,
    BrainMRI,
    CopsDataModule,
    Folder,
    ImageFolder,
    MVTecAD,
    VisA,
    find_data_module,
    held_out,
    thinned,
)
from cops_lightning.data.protocol import categories_of, images_of, require_unseen
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.data.samplers import EpochShuffle
from data.conftest import MakeTree, write_image

# Lightning advises more worker processes, which images of 4 x 4 pixels do not need, and uses what torch will remove.
pytestmark = pytest.mark.filterwarnings(
    "ignore:The '.*_dataloader' does not have many workers", "ignore:.*LeafSpec:FutureWarning"
)

SETTINGS = [*inspect.signature(AnomalyDataModule).parameters.values()]


class Recorder(LightningModule):
    """A model of one weight that keeps the keys of the batches that it is given."""

    def __init__(self, image_size: int = 8) -> None:
        super().__init__()
        self.image_size, self.weight = image_size, torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[str, list[Any]] = {"train": [], "val": [], "test": [], "predict": []}

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.seen["train"].append(batch)
        return self.weight * len(batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen["val"].append(batch)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.seen["test"].append(batch)

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> list[int]:
        self.seen["predict"].append(batch)
        return batch.labels.tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def keys(self, stage: str) -> list[str]:
        return [key for batch in self.seen[stage] for key in batch.keys]


def trainer(**options: Any) -> Trainer:
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**{"accelerator": "cpu", "max_epochs": 1} | quiet | options)


def index(name: str, categories: dict[str, tuple[int, int]]) -> DatasetIndex:
    """A dataset of so many normal and anomalous test images per category; the files need not exist."""
    samples = tuple(
        Sample(name, c, "test", "d", Path("/data", name, c, f"{anomalous}{i}.png"), None, anomalous, f"{name}/{c}/{i}")
        for c, counts in categories.items()
        for anomalous, count in zip((False, True), counts, strict=True)
        for i in range(count)
    )
    return DatasetIndex(name, Path("/data", name), "made by the test", (), samples, has_masks=False)


def places(category: str, normal: int, anomalous: int) -> list[str]:
    good = [f"{category}/test/good/{i}.png" for i in range(normal)]
    return good + [f"{category}/test/bad/{i}.png" for i in range(anomalous)]


@pytest.fixture
def parts(make_tree: MakeTree) -> Path:
    """A dataset of one's own without masks: 10 images of nuts, 5 of bolts."""
    return make_tree(*places("nut", 6, 4), *places("bolt", 3, 2), root="parts")


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked of the disk."""
    asked: list[Any] = []
    inner = module_under_test.load_index
    monkeypatch.setattr(module_under_test, "load_index", lambda *given: asked.append(given) or inner(*given))
    return asked


# ---- with Lightning's Trainer


def test_a_trainer_fits_tests_and_predicts_with_one_data_module_that_reads_the_disk_once(parts: Path, reads: list[Any]):
    module, images = Recorder(), Folder(parts, batch_size=4)
    assert reads == []
    runner = trainer()
    runner.fit(module, datamodule=images)
    runner.test(module, datamodule=images, verbose=False)
    predictions = runner.predict(module, datamodule=images)
    keys = [sample.key for sample in images.targets[0].test]
    assert sorted(module.keys("train")) == sorted(keys)
    assert module.keys("train") != keys
    assert module.keys("test") == module.keys("predict") == keys
    assert [label for labels in predictions for label in labels] == [sample.label for sample in images.targets[0].test]
    assert module.seen["val"] == []
    assert module.seen["train"][0].images.shape == (4, 3, 8, 8)
    assert len(reads) == 1


def test_a_data_module_serves_several_trainers_and_the_image_size_of_each_model(parts: Path):
    images = Folder(parts)
    for size in (8, 16):
        module = Recorder(size)
        trainer().fit(module, datamodule=images)
        trainer().test(module, datamodule=images, verbose=False)
        assert module.seen["train"][0].images.shape[-1] == module.seen["test"][0].images.shape[-1] == size


def test_training_that_loads_anew_every_epoch_takes_the_orders_of_one_that_does_not(parts: Path):
    plain, anew = Recorder(), Recorder()
    trainer(max_epochs=3).fit(plain, datamodule=Folder(parts))
    trainer(max_epochs=3, reload_dataloaders_every_n_epochs=1).fit(anew, datamodule=Folder(parts))
    assert plain.keys("train") == anew.keys("train")
    assert plain.keys("train")[:15] != plain.keys("train")[15:30]


def test_the_order_of_an_epoch_is_a_function_of_seed_and_epoch(parts: Path):
    module, images = Recorder(), Folder(parts, seed=3)
    trainer(max_epochs=2).fit(module, datamodule=images)
    keys = [sample.key for sample in images.auxiliary.test]
    order = EpochShuffle(15, seed=3)
    order.set_epoch(1)
    assert module.keys("train")[15:] == [keys[place] for place in order]


def test_a_share_that_is_held_out_is_validated_on_and_not_trained_on(parts: Path):
    module, images = Recorder(), Folder(parts, val_fraction=0.4)
    trainer(num_sanity_val_steps=0).fit(module, datamodule=images)
    trained, validated = module.keys("train"), module.keys("val")
    assert sorted(trained + validated) == sorted(sample.key for sample in images.auxiliary.test)
    kept = [(s.category, s.anomalous) for batch in module.seen["val"] for s in batch.samples]
    # 0.4 of 6, 4, 3 and 2 images, rounded.
    assert {group: kept.count(group) for group in set(kept)} == {
        ("nut", False): 2, ("nut", True): 2, ("bolt", False): 1, ("bolt", True): 1,
    }  # fmt: skip


def test_what_is_held_out_is_spread_evenly():
    assert held_out(index("a", {"x": (10, 1)}), 0.2) == [2, 7]
    assert held_out(index("a", {"x": (2, 0)}), 0.01) == [1]
    assert held_out(index("a", {"x": (2, 0)}), 0.99) == [1]


@pytest.mark.parametrize("fraction", [1.0, -0.1, 2.0])
def test_a_share_that_is_none_is_refused(fraction: float):
    with pytest.raises(ConfigError, match="expected a share of 0 or more and less than 1"):
        VisA(val_fraction=fraction)


def test_images_without_labels_are_predicted_in_order(make_tree: MakeTree):
    folder = make_tree("b.png", "a.jpg", "deep/c.PNG", "notes.txt", root="photos")
    module = Recorder()
    predictions = trainer().predict(module, dataloaders=ImageFolder(folder, batch_size=2))
    assert [sample.image for batch in module.seen["predict"] for sample in batch.samples] == [
        folder / "a.jpg", folder / "b.png", folder / "deep" / "c.PNG",
    ]  # fmt: skip
    assert predictions == [[-1, -1], [-1]]


# ---- settings


@pytest.mark.parametrize("given", [*PUBLISHED.values(), Folder, CopsDataModule])
def test_every_data_module_takes_the_same_settings(given: type[AnomalyDataModule]):
    own = inspect.signature(given).parameters
    for setting in SETTINGS:
        if setting.name != "evaluate_seen":
            assert own[setting.name] == setting


@pytest.mark.parametrize("made", [Folder("no/where"), VisA("no/where"), ImageFolder("no/where")])
def test_nothing_is_looked_for_until_it_is_needed(made: Any):
    with pytest.raises(DatasetError, match="no/where does not exist"):
        trainer().predict(Recorder(), datamodule=made)


def test_categories_restrict_what_is_trained_on_and_tested(parts: Path):
    module, images = Recorder(), Folder(parts, categories=["bolt"])
    trainer().fit(module, datamodule=images)
    trainer().test(module, datamodule=images, verbose=False)
    assert sorted(module.keys("train")) == sorted(module.keys("test"))
    assert {key.split("/")[1] for key in module.keys("train")} == {"bolt"}


def test_a_misspelt_category_is_named_with_the_nearest(parts: Path):
    with pytest.raises(DatasetError, match=r"parts has no category 'bold'. Did you mean 'bolt'\? It has: bolt, nut"):
        Folder(parts, categories=["bold"]).setup("fit")


def test_a_limit_keeps_the_shares_of_categories_and_labels():
    small = thinned(index("a", {"x": (40, 20), "y": (20, 20)}), 10)
    kept = [(s.category, s.anomalous) for s in small.test]
    assert {key: kept.count(key) for key in set(kept)} == {
        ("x", False): 4, ("x", True): 2, ("y", False): 2, ("y", True): 2,
    }  # fmt: skip


def test_a_limit_above_the_size_changes_nothing():
    whole = index("a", {"x": (2, 2)})
    assert thinned(whole, 10) is thinned(whole, None) is whole


def test_a_limit_holds_for_training_and_testing(parts: Path):
    images = Folder(parts, image_size=8, limit=5)
    assert len(images.train_dataloader().dataset) == len(images.test_dataloader()[0].dataset) == 5


def test_without_an_image_size_or_a_model_that_has_one_it_is_asked_for(parts: Path):
    with pytest.raises(ConfigError, match="Folder has no image_size, and there is no trainer yet"):
        Folder(parts).test_dataloader()
    module = Recorder()
    del module.image_size
    with pytest.raises(ConfigError, match="Recorder has no image_size to take it from. Give it one."):
        trainer().test(module, datamodule=Folder(parts))


def test_training_images_are_augmented_by_one_transform_or_a_list_and_tested_ones_are_not(parts: Path):
    black = albumentations.RandomBrightnessContrast((-1, -1), (0, 0), p=1)
    plain, one, several = (Folder(parts, image_size=8, augment=a) for a in (None, black, [black, black]))
    (white, *_), (dark, *_), (darker, *_) = (next(iter(m.train_dataloader())).images for m in (plain, one, several))
    assert white.min() > 0 > dark.max()
    assert torch.equal(dark, darker)
    assert torch.equal(next(iter(several.test_dataloader()[0])).images[0], white)


def test_an_empty_list_of_transforms_is_none(parts: Path):
    assert Folder(parts, augment=[]).augment is None


def test_features_that_were_kept_are_served_in_place_of_these_very_images(parts: Path):
    images = Folder(parts, image_size=8, num_workers=2)
    images.find()
    kept = images.dataset(images.targets[0])
    images.cached["parts"] = kept
    (tested,) = images.test_dataloader()
    assert tested.dataset is images.train_dataloader().dataset is kept
    assert tested.num_workers == 0
    bolts = Folder(parts, image_size=8, categories=["bolt"])
    bolts.cached["parts"] = kept
    assert [s.category for s in bolts.test_dataloader()[0].dataset.samples] == ["bolt"] * 5


# ---- published datasets


def test_every_dataset_of_the_catalogue_has_a_class_that_states_what_the_catalogue_says():
    assert set(PUBLISHED) == set(CATALOG)
    for name, given in PUBLISHED.items():
        spec, text = CATALOG[name], given.__doc__
        assert text.startswith(f"{spec.title} (")
        assert spec.licence in text
        assert ("No masks" in text) == (not spec.has_masks)
        assert ("No normal images" in text) == (not spec.has_normal)
        assert f"{len(spec.counts)} categories" in text or len(spec.counts) in (1, 3)


def test_the_thirteen_are_those_of_the_benchmark():
    assert {name for name, given in PUBLISHED.items() if "not among the thirteen" not in given.__doc__} == set(
        BENCHMARK
    )


def test_a_published_dataset_trains_on_and_tests_its_test_split(tmp_path: Path):
    for label, count in (("no", 3), ("yes", 2)):
        (tmp_path / "brain_tumor_dataset" / label).mkdir(parents=True)
        for number in range(count):
            pixels = Image.new("RGB", (20, 30), (number, 0, 0))
            pixels.save(tmp_path / "brain_tumor_dataset" / label / f"{label}{number}.png")
    module = BrainMRI(tmp_path, image_size=32, batch_size=4)
    (evaluated,) = module.test_dataloader()
    for loader in (module.train_dataloader(), evaluated):
        batches = list(loader)
        assert sum(int(batch.labels.sum()) for batch in batches) == 2
        assert sum(len(batch.images) for batch in batches) == 5
        assert batches[0].masks is None


def test_the_environment_says_where_datasets_lie(make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch):
    root = make_tree("mvtec/bottle/test/good/0.png")
    monkeypatch.setenv("COPS_DATA_ROOT", str(root))
    images = MVTecAD()
    images.prepare_data()
    assert images.targets[0].root == root / "mvtec"


@pytest.mark.parametrize("name", ["mvtec", "MVTec-AD", "mvtec_ad"])
def test_a_name_of_the_catalogue_in_any_spelling_finds_its_class(name: str):
    found = find_data_module(name, root="/data", limit=3)
    assert type(found) is MVTecAD
    assert (found.root, found.limit) == ("/data", 3)


def test_a_folder_given_for_one_dataset_goes_before_that_of_all():
    roots = {"MVTec-AD": "/elsewhere"}
    assert find_data_module("mvtec", root="/data", roots=roots).root == "/elsewhere"
    assert find_data_module("visa", root="/data", roots=roots).root == "/data"


def test_anything_else_is_data_of_ones_own(parts: Path):
    found = find_data_module(str(parts), root="/data", image_size=8)
    assert type(found) is Folder
    assert len(found.test_dataloader()[0].dataset) == 15
    with pytest.raises(DatasetError, match="Did you mean 'mvtec'"):
        find_data_module("mvtek").find()


# ---- one auxiliary dataset, many targets


@pytest.fixture
def composed(make_tree: MakeTree) -> CopsDataModule:
    parts = make_tree(*places("nut", 6, 4), *places("bolt", 3, 2), root="parts")
    tiles = make_tree(*places("floor", 2, 2), root="tiles")
    fabric = make_tree(*places("silk", 1, 1), *places("wool", 1, 1), root="fabric")
    return CopsDataModule(Folder(parts, categories=["nut"]), [Folder(tiles), Folder(fabric)], batch_size=4)


def test_members_are_trained_on_and_tested_with_the_settings_of_the_whole(composed: CopsDataModule):
    module = Recorder()
    trainer().fit(module, datamodule=composed)
    trainer().test(module, datamodule=composed, verbose=False)
    assert [len(batch) for batch in module.seen["train"]] == [4, 4, 2]
    assert {key.split("/")[0] for key in module.keys("train")} == {"parts"}
    assert list(dict.fromkeys(key.split("/")[0] for key in module.keys("test"))) == ["tiles", "fabric"]
    assert composed.auxiliary.categories == ("nut",)


def test_a_limit_of_the_whole_holds_for_every_member(composed: CopsDataModule):
    composed.limit = 2
    composed.find()
    assert [len(i.test) for i in (composed.auxiliary, *composed.targets)] == [2, 2, 4]  # one of each label at least


def test_categories_of_the_whole_restrict_the_targets_alone(make_tree: MakeTree):
    parts = make_tree(*places("nut", 2, 1), *places("bolt", 2, 1), root="parts")
    fabric = make_tree(*places("silk", 1, 1), *places("wool", 1, 1), root="fabric")
    whole = CopsDataModule(Folder(parts), [Folder(fabric)], categories=["wool"])
    whole.find()
    assert whole.auxiliary.categories == ("bolt", "nut")
    assert [target.categories for target in whole.targets] == [("wool",)]
    with pytest.raises(DatasetError, match=r"No target has a category 'silc'. Did you mean 'silk'\?"):
        CopsDataModule(None, [Folder(fabric)], categories=["silc"]).find()
    with pytest.raises(DatasetError, match="parts has none of the categories wool; it has: bolt, nut"):
        CopsDataModule(None, [Folder(fabric), Folder(parts)], categories=["wool"]).find()


def test_a_target_that_occurs_twice_is_refused(parts: Path):
    with pytest.raises(ConfigError, match="targets holds parts twice"):
        CopsDataModule(None, [Folder(parts), Folder(parts)]).find()


def parts_of(root: Path, value: int) -> Folder:
    """A folder called parts, of images that are all of one grey value; equal values make equal datasets."""
    for number, place in enumerate(places("nut", 2, 2)):
        write_image(root / "parts" / place, np.full((4, 4), value + number, np.uint8))
    return Folder(root / "parts")


def test_different_datasets_of_one_name_are_told_apart_by_their_content(tmp_path: Path):
    auxiliary, *targets = (parts_of(tmp_path / site, value) for site, value in (("a", 0), ("b", 100), ("c", 200)))
    whole = CopsDataModule(auxiliary, targets)
    whole.find()
    names = ["parts", *(f"parts-{target.targets[0].fingerprint()[:8]}" for target in targets)]
    assert len(set(names)) == 3
    assert [whole.auxiliary.name, *(target.name for target in whole.targets)] == names
    for target in whole.targets:
        assert {sample.dataset for sample in target.test} == {target.name}
        assert all(sample.key.startswith(f"{target.name}/nut/nut/test/") for sample in target.test)
    tested = [(target.name, target.test) for target in whole.targets]
    require_unseen(tested, categories_of(whole.auxiliary.test), images_of(whole.auxiliary.test))


def test_a_copy_of_what_is_trained_on_keeps_its_name_and_is_refused(tmp_path: Path):
    whole = CopsDataModule(parts_of(tmp_path / "a", 0), [parts_of(tmp_path / "b", 0)])
    whole.find()
    (target,) = whole.targets
    with pytest.raises(ProtocolError, match="parts is not zero-shot: its categories parts/nut were trained on"):
        require_unseen([(target.name, target.test)], categories_of(whole.auxiliary.test))


def test_training_without_an_auxiliary_dataset_is_refused():
    with pytest.raises(ProtocolError, match="auxiliary=NAME"):
        CopsDataModule(image_size=48).train_dataloader()


def test_testing_without_a_target_is_refused():
    with pytest.raises(ConfigError, match="no target to test on"):
        trainer().test(Recorder(), datamodule=CopsDataModule())


def test_targets_that_may_be_tested_although_they_were_trained_on_are_named(parts: Path):
    alone, allowed = Folder(parts), Folder(parts, evaluate_seen=True)
    whole = CopsDataModule(None, [Folder(parts, evaluate_seen=True)], evaluate_seen=["a", "parts"])
    for images in (alone, allowed, whole):
        images.find()
    assert (alone.evaluate_seen, allowed.evaluate_seen, whole.evaluate_seen) == ((), ("parts",), ("a", "parts"))


# ---- words for several targets


def test_all_is_the_benchmark_less_the_auxiliary_dataset():
    assert set(expand_targets("all", "VisA")) == set(BENCHMARK) - {"visa"}


def test_industrial_and_medical_split_the_benchmark():
    expanded = expand_targets(["industrial", "medical"])
    assert sorted(expanded) == sorted(BENCHMARK)
    assert expanded.index("mvtec") < expanded.index("headct")


def test_a_name_stands_for_itself_even_where_it_was_trained_on():
    assert expand_targets("btad", "btad") == ("btad",)
    assert expand_targets(["my/folder", "procedural"], "procedural_easy") == (
        "my/folder", "procedural_medium", "procedural_hard",
    )  # fmt: skip


def test_a_dataset_named_twice_is_refused():
    with pytest.raises(ConfigError, match="holds mvtec twice"):
        expand_targets(["MVTec-AD", "industrial"], "visa")


@pytest.mark.parametrize("nothing", [[], None, ""])
def test_targets_that_name_nothing_are_refused(nothing: Any):
    with pytest.raises(ConfigError, match="name at least one dataset"):
        expand_targets(nothing, "visa")


# ---- images without labels


def test_an_image_without_a_label_is_neither_normal_nor_anomalous(make_tree: MakeTree):
    images = ImageFolder(make_tree("a.png", "nut/b.png", root="photos"), image_size=8)
    (batch,) = images.predict_dataloader()
    assert [(s.category, s.anomalous, s.key) for s in batch.samples] == [
        ("photos", None, "photos/photos/a.png"), ("nut", None, "photos/nut/nut/b.png"),
    ]  # fmt: skip
    assert batch.labels.tolist() == [-1, -1]
    assert batch.masks is None


def test_a_list_of_files_is_taken_in_its_order(make_tree: MakeTree):
    folder = make_tree("x/b.png", "y/a.png", root="photos")
    files = [folder / "x" / "b.png", str(folder / "y" / "a.png")]
    (batch,) = ImageFolder(files, image_size=8).predict_dataloader()
    assert [str(sample.image) for sample in batch.samples] == [str(file) for file in files]
    (single,) = ImageFolder(files[0], image_size=8).predict_dataloader()
    assert single.samples[0].image == files[0]


def test_what_holds_no_image_is_refused(make_tree: MakeTree, tmp_path: Path):
    empty = make_tree("notes.txt", root="photos")
    for source, message in (
        (empty, "holds no image. Expected files that end in .bmp"),
        ([empty / "a.png"], "a.png is no image file. The nearest folder"),
        ([], "The list of images is empty"),
    ):
        with pytest.raises(DatasetError, match=message):
            ImageFolder(source).setup("predict")
