"""What a run writes lies apart from the data that it reads."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from cops_lightning.config.options import register
from cops_lightning.core.errors import ConfigError
from cops_lightning.core.files import conf_folder
from cops_lightning.runs.apart import require_results_apart

BRIGHTNESS = "cops_lightning.models.baselines.pixel_statistics.Brightness"


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A folder with one of images, `parts`, two files that name it, and BTAD under a usual name."""
    for folder in ("parts/a/test/good", "BTech_Dataset_transformed/01/test/ok"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "parts.csv").write_text("image,label\n")
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "parts.yaml").write_text("root: ../parts\nimages: '{defect}/{stem}.png'\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COPS_CACHE", str(tmp_path / "cache"))
    return tmp_path


def written(here: Path) -> list[Path]:
    """What lies there, but for what is remembered of hashes, which earlier tests may still write."""
    return sorted(file for file in here.rglob("*") if (here / "cache") not in (file, *file.parents))


@pytest.fixture(scope="module")
def whole() -> DictConfig:
    """A training on `parts` with the paths of the default configuration, composed once."""
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        asked = ["model=cops", "auxiliary=own", "auxiliary.source=parts", "paths.output=."]
        return compose("train", asked, return_hydra_config=True)


@pytest.fixture
def configured(whole):
    """That with other settings; without `auxiliary` nothing is trained."""

    def changed(*settings: str, trains: bool = False) -> DictConfig:
        config = OmegaConf.merge(whole, OmegaConf.from_dotlist(list(settings)))
        return config if trains else OmegaConf.merge(config, {"model": {"_target_": BRIGHTNESS}})

    return changed


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["targets=[parts]", "hydra.run.dir=parts"], "parts, which is parts"),
        (["targets=[parts]", "hydra.run.dir=parts/a/../runs/1"], "which lies in parts"),
        (["targets=[parts]", "hydra.run.dir=."], "which holds parts"),
        (["targets=[parts.csv]", "hydra.run.dir=."], "which holds parts.csv"),
        (["targets=[specs/parts.yaml]", "hydra.run.dir=parts/x"], "which lies in"),
        (["targets=[btad]", "paths.data=.", "hydra.run.dir=BTech_Dataset_transformed/01/x"], "lies in BTech_Dataset"),
        (["targets=[parts]", "hydra.run.dir=run", "paths.cache=parts/cache"], "The cache would be written into parts"),
        (["targets=[.]", "hydra.run.dir=../run"], "The cache would be written into"),  # that of COPS_CACHE
    ],
)
def test_a_place_that_is_or_lies_in_or_holds_data_that_is_read_is_refused(asked, said, here, configured):
    before = written(here)
    with pytest.raises(ConfigError, match="Nothing was written") as refused:
        require_results_apart(configured(*asked), "hydra.run.dir")
    assert said in str(refused.value)
    assert written(here) == before


def test_so_is_one_in_what_is_trained_on(here, configured):
    with pytest.raises(ConfigError, match="lies in parts, a dataset"):
        require_results_apart(configured("hydra.run.dir=parts/x", "targets=[typo]", trains=True), "hydra.run.dir")


@pytest.mark.parametrize(
    "asked",
    [
        ["targets=[parts]", "hydra.run.dir=parts2/run"],
        ["targets=[parts.csv]", "hydra.run.dir=runs/x"],  # beside a file that lists images
        ["targets=[btad]", "paths.data=.", "hydra.run.dir=runs/x"],  # beside datasets
        ["targets=[typo]", "hydra.run.dir=typo/x"],  # which is said by whoever looks for it
        ["targets=[parts.csv]", "hydra.run.dir=parts/x"],  # nothing is trained
    ],
)
def test_a_place_beside_the_data_is_not(asked, here, configured):
    require_results_apart(configured(*asked), "hydra.run.dir")


@pytest.mark.parametrize("swept", ["targets=[parts],[parts.csv]", "auxiliary.source=x,parts"])
def test_of_a_sweep_each_dataset_counts(swept, here, configured):
    sweep = configured("targets=[parts.csv]", "auxiliary.source=x", "hydra.sweep.dir=parts/study", trains=True)
    require_results_apart(sweep, "hydra.sweep.dir")
    sweep.hydra.overrides.task = [swept]
    with pytest.raises(ConfigError, match="lies in parts, a dataset"):
        require_results_apart(sweep, "hydra.sweep.dir")


def test_of_an_evaluation_the_targets_count_whatever_checkpoints_are_swept(here):
    register()
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        sweep = compose("eval", ["targets=[parts]", "hydra.sweep.dir=study"], return_hydra_config=True)
    sweep.hydra.overrides.task = ["checkpoint=a.ckpt,b.ckpt"]
    require_results_apart(sweep, "hydra.sweep.dir")
    sweep.hydra.sweep.dir = "parts/study"
    with pytest.raises(ConfigError, match="lies in parts, a dataset"):
        require_results_apart(sweep, "hydra.sweep.dir")
