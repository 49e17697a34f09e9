"""From a configuration to data modules."""

from pathlib import Path

import pytest

from composing import composed
from cops_lightning.callbacks.feature_cache import FeatureCaching
from cops_lightning.callbacks.results import Results
from cops_lightning.config import options
from cops_lightning.config.check import check
from cops_lightning.config.options import resolved
from cops_lightning.config.settings import TrainSettings
from cops_lightning.core.errors import ConfigError
from cops_lightning.core.files import conf_folder
from cops_lightning.runs.build import build_auxiliary, build_callbacks, build_targets, try_out


@pytest.mark.parametrize(
    ("asked", "root"),
    [(["paths.datasets={visa: /elsewhere}"], "/elsewhere"), ([], "/data"), (["auxiliary.root=/mine"], "/mine")],
)
def test_the_folder_of_a_single_dataset_is_found_by_its_name_whether_it_is_trained_on_or_tested(asked, root):
    config = composed("paths.data=/data", "auxiliary=visa", "targets=[visa]", *asked)
    auxiliary, [target] = build_auxiliary(config), build_targets(config, "mvtec")
    assert str(auxiliary.root) == root
    assert str(target.root) == ("/data" if root == "/mine" else root)


@pytest.mark.parametrize("asked", [[], ["callbacks.results=null"]])
def test_results_are_written_before_any_other_callback_has_its_turn(asked):
    config = composed(*asked)
    first, *others = build_callbacks(config)
    assert isinstance(first, Results)
    assert len(others) == len([node for name, node in config.callbacks.items() if node and name != "results"])
    assert not any(isinstance(callback, Results) for callback in others)


def test_an_option_of_ones_own_that_inherits_from_another_is_a_target_too(tmp_path, monkeypatch):
    (tmp_path / "auxiliary").mkdir()
    (tmp_path / "auxiliary" / "few.yaml").write_text("defaults: [visa, _self_]\ncategories: [candle]\n")
    monkeypatch.setattr(options, "search_folders", lambda: [tmp_path, conf_folder()])
    [target] = build_targets(composed("targets=[few]", "paths.data=/data"), "mvtec")
    assert (type(target).__name__, target.root, target.categories) == ("VisA", "/data", ["candle"])


@pytest.mark.parametrize(
    "setting",
    [
        "preset.epochs=-1",
        "preset.pool=2",
        "preset.alpha=1.5",
        "preset.recon_weight=-1",
        "callbacks.heat_maps.scale_max=0",
        "callbacks.feature_cache.budget_gb=inf",
        "optimizer.lr=-1",
        "optimizer.lr=nan",
        "optimizer.betas=[2,3]",
        "trainer.devices=0",
        "trainer.devices=-2",
        "trainer.max_epochs=-1",
        "trainer.max_steps=-3",
        "trainer.limit_test_batches=-1",
        "backbone.deep_layers=-1",
        "backbone.image_size=0",
        "data.limit=0",
        "data.limit=-5",
        "data.batch_size=0",
        "data.num_workers=-1",
        "model.sizes.prototypes=0",
        "targets=5",
        "seed=-1",
    ],
)
def test_a_setting_that_is_out_of_range_is_refused_before_anything_is_done(setting):
    config = composed(setting)
    with pytest.raises(ConfigError):
        check(resolved(config), TrainSettings)
        try_out(config)


def test_what_ships_is_within_its_ranges():
    check(resolved(composed("scheduler=cosine", "corruption=noise")), TrainSettings)
    try_out(composed("scheduler=cosine", "corruption=noise"))


@pytest.mark.parametrize("empty", ["", " "])
def test_an_empty_environment_variable_of_the_cache_is_none(empty, monkeypatch):
    monkeypatch.setenv("COPS_CACHE", empty)
    (cache,) = [c for c in build_callbacks(composed()) if isinstance(c, FeatureCaching)]
    assert cache.options.folder == Path.home() / ".cache" / "cops_lightning"


@pytest.mark.parametrize(
    ("logger", "missing", "package"),
    [
        ("mlflow", {"mlflow"}, "cops_lightning[mlflow]"),
        ("tensorboard", {"tensorboard", "tensorboardX"}, "[tensorboard]"),
    ],
)
def test_a_logger_whose_package_is_not_installed_is_refused_before_data_is_read(logger, missing, package, monkeypatch):
    monkeypatch.setattr("cops_lightning.runs.build.find_spec", lambda name: None if name in missing else object())
    with pytest.raises(ConfigError, match=f"logger.{logger} needs a package that is not installed") as refused:
        try_out(composed(f"logger={logger}"))
    assert package in str(refused.value)
    try_out(composed("logger=csv"))
