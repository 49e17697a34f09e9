"""What names a method: every setting that can change a number, and nothing else."""

from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given, strategies
from omegaconf import OmegaConf

from composing import composed
from cops_lightning.config.check import TARGET
from cops_lightning.config.options import resolved
from cops_lightning.core.hashes import settings_hash
from cops_lightning.core.names import file_name
from cops_lightning.core.tensor_files import write_tensors
from cops_lightning.core.types import Sample
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.models.checkpoint import Saved
from cops_lightning.runs.identity import (
    NAMES,
    PLACES,
    SHOWN,
    WATCHING,
    Identity,
    data_content,
    evaluation_settings,
    identify,
    job_name,
    label,
    method_settings,
    run_id,
    run_key,
)


def nodes(*overrides: str) -> dict[str, Any]:
    return resolved(composed(*overrides))


WHOLE = nodes("corruption=noise", "scheduler=cosine", "auxiliary=visa", "auxiliary.root=/data")


def method(config: dict[str, Any]) -> str:
    return settings_hash(method_settings(OmegaConf.create(config)))


METHOD = method(WHOLE)


def leaves(value: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*at, key))
    else:
        yield at


def altered(place: tuple[str, ...], value: Any = "something else") -> dict[str, Any]:
    config = deepcopy(WHOLE)
    within = config
    for key in place[:-1]:
        within = within[key]
    within[place[-1]] = value
    return config


def counts(place: tuple[str, ...]) -> bool:
    """Whether a setting can change a number, as the lists of runs/identity.py say."""
    group = place[0]
    if group in (*NAMES, *SHOWN, "seed"):
        return False
    if group == "callbacks":
        target = str(WHOLE["callbacks"][place[1]].get(TARGET))
        if target.startswith("cops_lightning.callbacks.feature_cache"):
            return place[-1] == "dtype"
        return not target.startswith((*WATCHING, "lightning.pytorch.callbacks.ModelCheckpoint"))
    if ".".join(place) == "data.eval_batch_size":
        return False  # no number of ours depends on the batch in evaluation
    return place[1] not in PLACES.get(group, ()) if len(place) > 1 else True


SETTINGS = [place for place in leaves(WHOLE) if place[-1] != TARGET or place[0] in ("model", "optimizer", "data")]


def named(place: tuple[str, ...]) -> str:
    return ".".join(place)


def test_the_property_below_is_over_all_groups():
    groups = {place[0] for place in SETTINGS if counts(place)}
    assert groups >= {"model", "backbone", "preset", "optimizer", "scheduler", "data", "trainer", "corruption"}
    assert len([place for place in SETTINGS if counts(place)]) > 40


@pytest.mark.parametrize("place", [place for place in SETTINGS if place[-1] != TARGET], ids=named)
def test_a_setting_changes_the_method_if_it_can_change_a_number(place):
    value: Any = "something else"
    if place == ("seed",):
        value = 7
    assert (method(altered(place, value)) != METHOD) == counts(place)


def test_a_class_that_is_another_is_another_method():
    for place, target in (
        (("optimizer", TARGET), "torch.optim.SGD"),
        (("model", TARGET), "cops_lightning.models.detector.TrainableDetector"),
        (("scheduler", TARGET), "torch.optim.lr_scheduler.StepLR"),
    ):
        assert method(altered(place, target)) != METHOD, place


@pytest.mark.parametrize(
    "added",
    [
        "+trainer.gradient_clip_val=1.0",
        "+trainer.max_steps=20",
        "+optimizer.weight_decay=0.1",
        "+callbacks.stop={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: loss}",
        "preset=mvtec",
        "ablation=without_states",
        "corruption=noise",
        "data.val_fraction=0.1",
        "data.categories=[bottle]",
        "model.readings.recon=matched",
        "callbacks.feature_cache.dtype=bf16",
    ],
)
def test_what_the_command_line_adds_changes_the_method(added):
    assert method(nodes("auxiliary=visa", added)) != method(nodes("auxiliary=visa"))


@pytest.mark.parametrize("auxiliary", ["visa", "procedural"])
def test_seeds_of_a_method_are_one_method_and_several_runs(auxiliary):
    zero, one = (composed(f"auxiliary={auxiliary}", f"seed={seed}") for seed in (0, 1))
    assert [one[group]["seed"] for group in ("model", "data")] == [1, 1]
    methods = [settings_hash(method_settings(config)) for config in (zero, one)]
    assert methods[0] == methods[1]
    assert run_id(methods[0], resolved(zero)) != run_id(methods[1], resolved(one))
    # A seed of one part alone is a setting like any other.
    for pinned in ("model.seed=5", "model.seed=0"):
        assert settings_hash(method_settings(composed(f"auxiliary={auxiliary}", pinned))) != methods[0]


@pytest.mark.parametrize(
    "changed",
    [
        "trainer.limit_test_batches=1",
        "data.image_size=112",
        "data.corruption=null",
        "data._target_=mine.Data",
    ],
)
def test_what_changes_the_scores_of_a_detector_that_learns_nothing_changes_its_method(changed):
    plain = ["model=clip", "corruption=noise"]
    methods = [settings_hash(method_settings(composed(*plain, *more))) for more in ([], [changed])]
    assert methods[0] != methods[1]


@pytest.mark.parametrize(
    "changed",
    [
        ["trainer.limit_test_batches=1"],
        ["trainer.precision=bf16-mixed"],
        ["data.limit=4"],
        ["corruption=noise"],
        ["corruption=noise", "data.corruption=null"],
    ],
)
def test_what_changes_the_scores_of_a_checkpoint_changes_the_method_of_its_evaluation(changed):
    trained = method_settings(composed())
    asked = ["checkpoint=last.ckpt", "targets=[visa]"]
    plain = evaluation_settings(trained, composed(*asked, name="eval"))
    assert plain == trained
    other = [evaluation_settings(trained, composed(*asked, *part, name="eval")) for part in (changed, changed[:1])]
    assert settings_hash(other[0]) != settings_hash(trained)
    assert (settings_hash(other[0]) == settings_hash(other[1])) == (len(changed) == 1)


def test_runs_on_two_auxiliary_datasets_under_one_preset_are_two_runs():
    trained = [composed(f"auxiliary={name}") for name in ("btad", "mpdd")]
    runs = {run_id(settings_hash(method_settings(config)), resolved(config)) for config in trained}
    assert len(runs) == 2


def test_what_is_shown_and_where_it_runs_does_not_change_the_method():
    # All of it at once: each would change the settings if it counted, and none takes another's place.
    shown = """
        variant=mine study=s title=t fail_fast=true targets=[mvtec] logger=none trainer.devices=2
        trainer.accelerator=cpu data.num_workers=0 data.eval_batch_size=64 +backbone.compile=true
        callbacks.heat_maps=null callbacks.progress=null callbacks.feature_cache=null callbacks.checkpoint=null
        paths.data=/elsewhere paths.cache=/elsewhere
    """
    assert method_settings(composed("auxiliary=visa", *shown.split())) == method_settings(composed("auxiliary=visa"))


def test_the_batch_of_evaluation_counts_where_the_released_reading_depends_on_it():
    released = ("auxiliary=visa", "+model.readings.distance_range=batch")
    assert method(nodes(*released, "data.eval_batch_size=64")) != method(nodes(*released))


def test_a_detector_that_learns_nothing_is_one_method_whatever_it_would_be_trained_on():
    methods = {
        method(nodes("model=winclip", *given))
        for given in (("auxiliary=visa",), ("auxiliary=mvtec",), ("preset=mvtec",), ("optimizer.lr=1",), ("seed=3",))
    }
    assert len(methods) == 1
    assert method(nodes("model=winclip", "data.limit=8")) not in methods


def test_weights_enter_by_content_and_not_by_path(tmp_path):
    def of(file: str) -> str:
        return method(nodes("auxiliary=visa", "backbone=from_weights", f"backbone.weights={tmp_path / file}"))

    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        (tmp_path / name).write_bytes(content)
    assert of("a") == of("c") != of("b")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"model": "cops", "ablation": "none"}, "cops"),
        ({"model": "cops", "ablation": "without_states"}, "without_states"),
        ({"model": "static_prompts", "ablation": "none"}, "static_prompts"),
        ({"model": "static_prompts", "ablation": "without_classes"}, "static_prompts-without_classes"),
    ],
)
def test_a_label_says_model_ablation_and_corruption(given, expected):
    assert label(OmegaConf.create({"variant": None, "corruption": None}), given) == expected
    corrupted = OmegaConf.create({"variant": None, "corruption": {"kind": "noise", "strength": 1}})
    assert label(corrupted, given) == f"{expected}-noise_1"
    assert label(OmegaConf.create({"variant": "mine", "corruption": None}), given) == "mine"


def job(*overrides: str) -> str:
    config = OmegaConf.create(nodes(*overrides))
    auxiliary = next((o.partition("=")[2] for o in overrides if o.startswith("auxiliary=")), "procedural")
    choices = {"model": "cops", "ablation": "none", "auxiliary": auxiliary}
    config.hydra = {"runtime": {"choices": choices}, "overrides": {"task": list(overrides)}}
    return job_name(config)


def test_a_folder_shows_what_was_swept_and_the_auxiliary_set():
    name = job("auxiliary=visa", "optimizer.lr=0.01", "seed=2", "trainer.devices=1", "logger=none")
    assert name.startswith("cops-visa-lr_0.01-seed2-")
    assert name != job("auxiliary=visa", "optimizer.lr=0.01", "seed=1", "trainer.devices=1", "logger=none")
    assert name == job("auxiliary=visa", "optimizer.lr=0.01", "seed=2", "trainer.devices=1", "paths.cache=/b").replace(
        "cache=_b-", ""
    )


def test_settings_of_one_name_are_told_apart_by_their_owners():
    name = job("auxiliary=visa", "auxiliary.limit=40", "data.limit=30", "optimizer.lr=0.01")
    assert name.startswith("cops-visa-auxiliary.limit_40-data.limit_30-lr_0.01-seed0-")


def test_a_folder_of_ones_own_data_is_named_after_it():
    assert job("auxiliary=own", "auxiliary.source=/data/my parts").startswith("cops-my_parts-")


def test_the_order_of_settings_and_one_that_is_taken_back_change_no_folder():
    one = job("auxiliary=visa", "optimizer.lr=0.01", "preset.epochs=2")
    assert one == job("auxiliary=visa", "preset.epochs=3", "preset.epochs=2", "optimizer.lr=0.01")


@pytest.mark.parametrize("variant", ["../x", "\u96f6" * 300, "a=b,c(d)", "nul", "-m", "~x"])
def test_a_folder_is_one_name_that_every_system_and_hydra_takes_whatever_the_variant(variant):
    name = job("auxiliary=visa", f'variant="{variant}"')
    assert file_name(name, 200) == name
    assert not set(name) & set("=,() ~/")


@pytest.mark.parametrize("study", ["../outside", "/abs/outside", "..", "a/b", "\u96f6" * 300, "com1"])
def test_a_study_is_one_folder_below_the_runs_whatever_it_is_called(study):
    import cops_lightning.cli.hydra_app  # noqa: F401  # which makes the resolvers known

    config = composed(f'study="{study}"', "paths.runs=/r", hydra=True)
    assert Path(config.hydra.sweep.dir) == Path("/r", file_name(study))
    assert Path(config.hydra.run.dir).parent == Path("/r", file_name(study))


def test_texts_of_a_checkpoint_are_data(tmp_path, monkeypatch):
    monkeypatch.setenv("API_KEY", "secret")
    saved = Saved(
        run={"seed": 3, "variant": "${oc.env:API_KEY}", "method_settings": {"data": {"x": "${oc.env:API_KEY}"}}}
    )
    write_tensors(tmp_path / "last.ckpt", {"state_dict": {}, "hyper_parameters": {"saved": saved.as_plain()}})
    config = composed(f"checkpoint={tmp_path / 'last.ckpt'}", "targets=[btad]", name="eval")
    found = identify(config, {})
    assert found.variant == "${oc.env:API_KEY}"
    assert "secret" not in f"{found}{resolved(found.config)}"


def identity(seed: int = 0, **more: Any) -> Identity:
    config = OmegaConf.create({**deepcopy(WHOLE), "seed": seed, **more})
    return Identity(config, "cops", method_settings(config))


PIXELS = {"part/test/good/0.png": b"grey", "part/test/hole/0.png": b"white", "part/ground_truth/hole/0_mask.png": b"m"}


def content(root: Path, files: dict[str, bytes], name: str) -> str:
    """`data_content` of a dataset with an image of each label, whose files hold these bytes."""
    for file, pixels in files.items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(pixels)
    good, hole, mask = (root / file for file in files)
    samples = (
        Sample(name, "part", "test", "good", good, None, False, f"{name}/part/0"),
        Sample(name, "part", "test", "hole", hole, mask, True, f"{name}/part/1"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COPS_CACHE", str(root.parent / "cache"))
        return data_content(DatasetIndex(name, root, "folders", (), samples, True))


@cache
def placed(seed: int, place: str) -> Identity:
    return identity(seed, evaluate_seen=[place], paths={"data": place})


@given(data=strategies.data())
@hypothesis.settings(max_examples=30)
def test_two_runs_have_one_key_if_and_only_if_all_bytes_that_they_read_are_equal(data, tmp_path_factory):
    here = tmp_path_factory.mktemp("key")
    weights = strategies.sampled_from([None, "w"])

    def drawn(place: str) -> tuple[list[Any], str]:
        files = {file: data.draw(strategies.sampled_from([kept, kept + b"."])) for file, kept in PIXELS.items()}
        seed, other = data.draw(strategies.integers(0, 1)), data.draw(weights)
        target = content(here / place, files, place)
        return [files, seed, other], run_key(placed(seed, place), other, [], [target])

    (read, key), (other_read, other_key) = drawn("here"), drawn("there")
    assert (key == other_key) == (read == other_read)


def test_what_is_trained_on_counts_by_its_content_and_not_by_its_path():
    own = [identity(auxiliary={TARGET: "cops_lightning.data.datamodules.Folder", "source": path}) for path in "ab"]
    assert own[0].method != own[1].method
    assert run_key(own[0], None, ["x"], ["t"]) == run_key(own[1], None, ["x"], ["t"])
    assert run_key(own[0], None, ["x"], ["t"]) != run_key(own[0], None, ["y"], ["t"])


def test_weights_of_the_environment_enter_by_content_and_not_by_path(tmp_path, monkeypatch):
    def of(file: str) -> str:
        monkeypatch.setenv("COPS_CLIP_WEIGHTS", str(tmp_path / file))
        return method(nodes("auxiliary=visa", "backbone=vit_l14"))

    for name, bytes_ in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        (tmp_path / name).write_bytes(bytes_)
    assert of("a") == of("c") != of("b")
