"""`model=` and `ablation=` from the command line."""

import csv
import json
from pathlib import Path

import pytest
import torch

from cops_lightning.report.tables import read_results

from .conftest import SMALL, make_dataset, only_error


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A folder with an auxiliary dataset `parts` and a target `tiles`."""
    folder = tmp_path_factory.mktemp("models")
    make_dataset(folder / "parts")
    make_dataset(folder / "tiles", seed=1)
    return folder


TRAINING = (
    "auxiliary=own",
    "auxiliary.source=parts",
    "preset.epochs=1",
    "targets=[tiles]",
    "callbacks.heat_maps=null",
    "callbacks.diagnostics=null",
    *SMALL,
)


QUIET = ("data.num_workers=0", "trainer.accelerator=cpu", "callbacks.progress=null")


def variants(folder) -> set[str]:
    return {row.run.variant for row in read_results(folder / "results.csv")}


def scores(folder) -> list[str]:
    with (folder / "scores.csv").open() as file:
        return [row["score"] for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def trained(here, run_command):
    """The folder of a run that trained with this choice, called after it; each is made once."""

    def train(choice: str) -> Path:
        folder = here / choice.partition("=")[2]
        if not folder.exists():
            result = run_command("cops-train", choice, *TRAINING, f"hydra.run.dir={folder}", cwd=here)
            assert result.returncode == 0, result.stderr
        return folder

    return train


@pytest.mark.parametrize(
    ("choice", "variant", "absent"),
    [
        ("model=static_prompts", "static_prompts", ("t_n", "extractor.", "vae_")),
        ("model=anomalyclip", "anomalyclip", ("t_n", "extractor.", "vae_")),
        ("model=bayes_pfl", "bayes_pfl", ("ctx_pos", "extractor.", "vae_")),
        ("ablation=without_deep_prompts", "without_deep_prompts", ("compound_prompts_text",)),
    ],
)
def test_a_choice_names_its_variant_and_its_checkpoint_evaluates_to_the_same_scores(
    choice, variant, absent, here, trained, run_command
):
    folder = trained(choice)
    assert variants(folder) == {variant}
    checkpoint = folder / "checkpoints" / "last.ckpt"
    assert not any(name.startswith(absent) for name in torch.load(checkpoint, weights_only=True)["state_dict"])

    again = ("targets=[tiles]", "callbacks.heat_maps=null", *QUIET)
    result = run_command("cops-eval", f"checkpoint={checkpoint}", *again, f"hydra.run.dir={folder / 'again'}", cwd=here)
    assert result.returncode == 0, result.stderr
    assert variants(folder / "again") == {variant}
    assert scores(folder / "again") == scores(folder)

    counts = [json.loads((run / "run.json").read_text())["image_encoder"] for run in (folder, folder / "again")]
    assert counts[1] == {"images_encoded": 0, "images_from_cache": 6}, "what the training run kept is served"


def test_a_model_that_learns_within_the_image_encoder_has_every_image_encoded_and_says_so(trained):
    folder = trained("model=adaclip")
    assert variants(folder) == {"adaclip"}
    assert "AdaCLIP learns within the image encoder: no features are cached." in (folder / "run.log").read_text()
    count = json.loads((folder / "run.json").read_text())["image_encoder"]
    assert count == {"images_encoded": 6 + 6, "images_from_cache": 0}


@pytest.mark.parametrize("choice", ["ablation=none", "model=anomalyclip", "model=bayes_pfl", "model=adaclip"])
def test_a_released_file_is_evaluated_to_the_scores_of_the_run_that_wrote_it(choice, here, trained, run_command):
    folder = trained(choice)
    released, run = folder / "checkpoints" / "released.pth", folder / "released"
    given = (
        f"checkpoint={released}",
        "auxiliary=visa",
        "backbone=tiny_random",
        "backbone.image_size=64",
        "targets=[tiles]",
    )
    result = run_command("cops-eval", *given, *QUIET, f"hydra.run.dir={run}", cwd=here)
    assert result.returncode == 0, result.stderr
    assert scores(run) == scores(folder)


@pytest.mark.parametrize(
    ("model", "preset"),
    [("cops", "anomalyclip"), ("anomalyclip", "bayes_pfl"), ("bayes_pfl", "visa"), ("adaclip", "visa")],
)
def test_the_preset_of_another_method_is_refused_before_anything_is_done(model, preset, here, run_command):
    result = run_command("cops-train", f"model={model}", f"preset={preset}", *TRAINING, cwd=here)
    assert "model.preset is a cops_lightning.models." in only_error(result)


@pytest.mark.parametrize(
    ("model", "backbone"),
    [
        ("clip", ("backbone=tiny_random", "backbone.image_size=64")),
        ("winclip", ("backbone=mini", "backbone.image_size=64")),
    ],
)
def test_a_model_that_learns_nothing_needs_no_auxiliary_data_and_leaves_the_same_files(
    model, backbone, here, run_command
):
    folder = here / model
    # The default auxiliary dataset is not there: no data root is set.
    options = ("targets=[tiles]", "callbacks.heat_maps.count=3", *QUIET)
    result = run_command("cops-train", f"model={model}", *backbone, *options, f"hydra.run.dir={folder}", cwd=here)
    assert result.returncode == 0, result.stderr
    assert f"{model} learns nothing: there is no training" in result.stdout
    assert f"{model}, not trained" in result.stdout
    rows = read_results(folder / "results.csv")
    assert {(row.run.variant, row.run.auxiliary) for row in rows} == {(model, "none")}
    assert len(rows) == 14
    assert len(scores(folder)) == 6
    assert len(list((folder / "heatmaps" / "tiles").glob("*.png"))) == 3
    assert not (folder / "checkpoints").exists()


def test_a_model_that_learns_nothing_has_no_checkpoint_to_evaluate(here, run_command):
    torch.save({"prompt_learner": {"t_n": torch.zeros(1)}}, here / "any.pth")
    options = ("checkpoint=any.pth", "auxiliary=visa", "backbone=mini", "targets=[tiles]", "model=clip")
    assert "This model has no checkpoint" in only_error(run_command("cops-eval", *options, *QUIET, cwd=here))


def test_a_sweep_over_ablations_gives_each_run_its_name_and_method(here, run_command):
    result = run_command(
        "cops-train", "-m", "ablation=none,without_classes", *TRAINING, "hydra.sweep.dir=sweep", cwd=here
    )
    assert result.returncode == 0, result.stderr
    whole, without = sorted(path.parent for path in (here / "sweep").glob("*/run.json"))
    assert [variants(job) for job in (whole, without)] == [{"cops"}, {"without_classes"}]
    records = [json.loads((job / "run.json").read_text()) for job in (whole, without)]
    assert records[1]["config"]["model"]["components"]["classes"] is False
    assert records[0]["method"] != records[1]["method"]
