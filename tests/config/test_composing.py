"""What the tests compose is what Hydra composes."""

from hydra import compose, initialize_config_dir

from composing import composed
from cops_lightning.config.options import register
from cops_lightning.core.files import conf_folder


def test_options_that_are_composed_once_with_values_set_later_are_what_hydra_composes():
    asked = ["experiment=ablations", "auxiliary=visa", "ablation=prototypes_3", "model.sizes.prototypes=5", "seed=2"]
    asked += [
        "+trainer.max_steps=3",
        "~optimizer.betas",
        "data.categories=[a,b]",
        "callbacks.heat_maps=null",
        "title=a",
    ]
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        expected = compose("train", ["paths.output=.", *asked])
    for _ in range(2):
        assert composed(*asked) == expected
        assert composed(*asked[:2]) != expected
