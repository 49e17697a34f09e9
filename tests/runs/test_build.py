"""From a configuration to data modules."""

import pytest
from hydra import compose, initialize_config_dir

from cops_lightning.callbacks.results import Results
from cops_lightning.config.options import register
from cops_lightning.core.files import conf_folder
from cops_lightning.runs.build import build_auxiliary, build_callbacks, build_targets


@pytest.mark.parametrize(
    ("asked", "root"),
    [(["paths.datasets={visa: /elsewhere}"], "/elsewhere"), ([], "/data"), (["auxiliary.root=/mine"], "/mine")],
)
def test_the_folder_of_a_single_dataset_is_found_by_its_name_whether_it_is_trained_on_or_tested(asked, root):
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", ["paths.output=.", "paths.data=/data", "auxiliary=visa", "targets=[visa]", *asked])
    auxiliary, [target] = build_auxiliary(config), build_targets(config, "mvtec")
    assert str(auxiliary.root) == root
    assert str(target.root) == ("/data" if root == "/mine" else root)


@pytest.mark.parametrize("asked", [[], ["callbacks.results=null"]])
def test_results_are_written_before_any_other_callback_has_its_turn(asked):
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        config = compose("train", ["paths.output=.", *asked])
    first, *others = build_callbacks(config)
    assert isinstance(first, Results)
    assert len(others) == len([node for name, node in config.callbacks.items() if node and name != "results"])
    assert not any(isinstance(callback, Results) for callback in others)
