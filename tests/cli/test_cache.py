"""`cops-cache` as a user runs it, and what runs make of the features that it keeps."""

import json
from pathlib import Path

import pytest

from cops_lightning.features import entries, stores

from .conftest import make_dataset, only_error, training

TINY = ("--backbone", "tiny_random", "--image-size", "64")


@pytest.fixture(scope="module")
def built(tmp_path_factory, run_command):
    """Two datasets of six images each, one encoded ahead; the cache that holds them, and what was printed."""
    here = tmp_path_factory.mktemp("built")
    auxiliary, target, cache = make_dataset(here / "parts"), make_dataset(here / "tiles", seed=1), here / "cache"
    result = run_command("cops-cache", "build", str(auxiliary), *TINY, COPS_CACHE=str(cache))
    assert result.returncode == 0, result.stderr
    return {"auxiliary": auxiliary, "target": target, "cache": cache, "printed": result.stdout}


def files(cache: Path) -> list[Path]:
    return [entry.path for folder in stores(cache / "features") for entry in entries(folder)]


def test_building_says_what_was_encoded_and_how_large_it_is(built):
    assert "parts: 6 images encoded, 0 were there" in built["printed"]
    assert "Features: " in built["printed"]


def test_building_again_encodes_nothing(built, run_command):
    result = run_command("cops-cache", "build", str(built["auxiliary"]), *TINY, "--cache", str(built["cache"]))
    assert "parts: 0 images encoded, 6 were there" in result.stdout


@pytest.mark.slow
def test_a_sweep_of_seeds_and_variants_encodes_each_image_once(built, tmp_path, run_command):
    arguments = (
        "-m",
        "seed=0,1",
        "ablation=none,without_states",
        "callbacks.heat_maps=null",
        "callbacks.diagnostics=null",
        "hydra.sweep.dir=sweep",
        *training(built["auxiliary"].parent, f"targets=[{built['target']}]"),
    )
    result = run_command("cops-train", *arguments, cwd=tmp_path, COPS_CACHE=str(built["cache"]))
    assert result.returncode == 0, result.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "sweep").glob("*/run.json")]
    counts = sorted((record["image_encoder"] for record in records), key=lambda counts: counts["images_from_cache"])
    # parts was encoded ahead; tiles by the run that came first.
    assert counts == [
        {"images_encoded": 6, "images_from_cache": 6},
        *3 * [{"images_encoded": 0, "images_from_cache": 12}],
    ]


def test_the_list_shows_what_features_are_of_and_how_many_there_are(built, run_command):
    shown = json.loads(run_command("cops-cache", "list", "--json", COPS_CACHE=str(built["cache"])).stdout)
    (store,) = shown
    assert (store["image_size"], store["precision"], store["dtype"]) == (64, "fp32", "fp32")
    assert store["images"] >= 6
    assert store["bytes"] == sum(path.stat().st_size for path in files(built["cache"]))
    assert "64" in run_command("cops-cache", "list", COPS_CACHE=str(built["cache"])).stdout


def test_an_empty_cache_is_said_to_be_empty(tmp_path, run_command):
    result = run_command("cops-cache", "list", COPS_CACHE=str(tmp_path))
    assert (result.returncode, result.stdout[:21]) == (0, "No features are kept ")


def test_verifying_finds_a_flipped_bit_removes_it_and_the_next_build_heals_it(built, run_command):
    def command(*arguments: str):
        return run_command("cops-cache", *arguments, COPS_CACHE=str(built["cache"]))

    assert "files are intact.\n" in command("verify").stdout
    run_command("cops-cache", "build", str(built["auxiliary"]), *TINY, COPS_CACHE=str(built["cache"]))
    broken = next(path for path in files(built["cache"]) if ".mask" not in path.name)
    content = bytearray(broken.read_bytes())
    content[len(content) // 2] ^= 1
    broken.write_bytes(content)
    found = command("verify")
    assert found.returncode == 1
    assert f"error: {broken} is damaged" in found.stderr
    assert broken.exists()
    assert "the damaged ones were removed" in command("verify", "--remove").stdout
    assert not broken.exists()
    assert command("verify").returncode == 0


def test_pruning_tells_first_and_gives_back_then(tmp_path, run_command):
    source, cache = make_dataset(tmp_path / "parts"), tmp_path / "cache"
    run_command("cops-cache", "build", str(source), *TINY, COPS_CACHE=str(cache))
    before = files(cache)
    told = run_command("cops-cache", "prune", "--all", "--dry-run", COPS_CACHE=str(cache)).stdout
    assert f"{len(before)} files" in told
    assert "would be given back" in told
    assert files(cache) == before
    assert "0 files" in run_command("cops-cache", "prune", "--older-than", "1", COPS_CACHE=str(cache)).stdout
    run_command("cops-cache", "prune", "--to-gb", "0", COPS_CACHE=str(cache))
    assert files(cache) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--backbone", "vit_z"), "There is no backbone vit_z. Did you mean"),
        (("--backbone", "from_weights"), "backbone.weights has no value"),
        (("--backbone", "tiny_random", "--image-size", "63"), "image_size is 63, which the patch size 16"),
        (
            (*TINY, "--dtype", "fp8"),
            "feature_cache.dtype is 'fp8', which FeatureCaching does not take; expected 'fp32', 'bf16' or 'fp16'",
        ),
        (
            (*TINY, "--budget-gb", "0"),
            "feature_cache.budget_gb is 0.0, which FeatureCaching does not take; expected greater than 0",
        ),
        ((*TINY, "--device", "abacus"), "The device abacus cannot be used here"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(arguments, said, built, tmp_path, run_command):
    result = run_command("cops-cache", "build", str(built["target"]), *arguments, COPS_CACHE=str(tmp_path))
    assert said in only_error(result)


def test_help_teaches_by_example(run_command):
    printed = run_command("cops-cache", "--help").stdout
    assert "cops-cache prune --older-than 30 --dry-run" in printed
    assert "COPS_CACHE" in printed
