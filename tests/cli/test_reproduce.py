"""`cops-reproduce` over stand-ins: all thirteen layouts with as many images as published, and a CLIP of the test's."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from cops_lightning.data.catalog import BENCHMARK, CATALOG
from cops_lightning.report.published import published
from standins import write_standins

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
LIMIT = 12
QUIET = (
    "callbacks.progress=null,callbacks.heat_maps=null,callbacks.diagnostics=null,callbacks.evaluation=null,logger=none"
)
SMALL = (
    "settings=[backbone.image_size=32,backbone.deep_layers=3,preset.epochs=1,"
    f"data.limit={LIMIT},data.num_workers=0,trainer.accelerator=cpu,{QUIET}]"
)


@pytest.fixture(scope="module")
def here(tmp_path_factory, tiny_clip_state) -> Path:
    """The stand-ins in data/, and CLIP's weights as tiny.pt."""
    here = tmp_path_factory.mktemp("reproduce")
    write_standins(here / "data")
    torch.save(tiny_clip_state, here / "tiny.pt")
    return here


@pytest.fixture(scope="module")
def command(here, run_command):
    """Call the command over the stand-ins, with a cache of their own."""

    def call(*words: str, seeds: str = "seeds=0,1", settings: str = SMALL):
        given = ("weights=tiny.pt", "backbone=from_weights", *([seeds] if seeds else []), settings)
        known = {word.partition("=")[0] for word in words}
        given = tuple(word for word in given if word.partition("=")[0] not in known)
        data = () if "data" in known else ("data=data",)
        return run_command("cops-reproduce", *words, *data, *given, cwd=here, COPS_CACHE=str(here / "cache"))

    return call


@pytest.fixture(scope="module")
def reproduced(here, command):
    """What the whole command printed, once."""
    result = command()
    assert result.returncode == 0, result.stderr
    return result


def table(here: Path, name: str = "reproduction", out: str = "reproduction") -> pd.DataFrame:
    return pd.read_csv(here / out / "tables" / f"{name}.csv")


def test_both_presets_are_trained_over_seeds_and_all_thirteen_sets_are_tested(here, reproduced):
    records = [json.loads(path.read_text()) for path in here.glob("runs/*/*/run.json")]
    assert sorted((r["auxiliary"], r["seed"], r["status"]) for r in records) == [
        (auxiliary, seed, "done") for auxiliary in ("mvtec", "visa") for seed in (0, 1)
    ]
    for record in records:
        preset, data = record["method_settings"]["preset"], record["method_settings"]["data"]
        pool, recon = {"visa": (5, 0.0), "mvtec": (3, 1.0)}[record["auxiliary"]]
        assert (preset["pool"], preset["recon_weight"]) == (pool, recon)
        assert (data["mask_threshold"], data["orientation"]) == ("released", "released")
    tested = {data["name"]: data["layout"] for r in records for data in r["data"] if data["role"] == "target"}
    assert set(tested) == set(BENCHMARK)
    assert {"publisher, split by split_csv/1cls.csv", "publisher, labels.csv", "publisher, one flat folder"} < set(
        tested.values()
    )


def test_every_published_number_stands_beside_ours_with_the_spread_of_the_seeds(here, reproduced):
    rows = table(here)
    compared = rows[rows["published"].notna()]
    authors = published().query("model == 'CoPS'")
    assert len(compared) == len(authors) == 36
    keys = ["auxiliary", "target", "level", "metric"]
    beside = compared.rename(columns={"dataset": "target"}).merge(authors, on=keys)
    assert beside["published"].to_numpy() == pytest.approx(100 * beside["value"].to_numpy())
    values = [
        100 * frame.query("target == 'btad' and category == 'mean' and level == 'pixel' and metric == 'ap'")["value"]
        for path in here.glob("runs/visa_to_rest/*/results.csv")
        for frame in [pd.read_csv(path)]
    ]
    (row,) = rows.query("dataset == 'btad' and level == 'pixel' and metric == 'ap'").to_dict("records")
    assert row["mean"] == pytest.approx(pd.concat(values).mean())
    assert row["sd"] == pytest.approx(pd.concat(values).std())
    assert row["difference"] == pytest.approx(row["mean"] - row["published"])
    assert (row["n"], set(rows["n"])) == (2, {2})


def test_the_page_says_that_a_rehearsal_is_none_and_the_console_shows_every_dataset(here, reproduced):
    page = (here / "reproduction" / "report.html").read_text()
    assert "This is no reproduction: the runs are not of the published protocol (backbone from_weights" in page
    assert page.count(f"data.limit is {LIMIT}") == 1
    assert "backbone.image_size is 32" in page  # the experiment without settings has no size of its own
    for name in BENCHMARK:
        assert CATALOG[name].title in page
        assert f"{CATALOG[name].title[:8]}" in reproduced.stdout
    assert "Choices of protocol that move numbers" in page
    assert "cops-train -m experiment=mvtec_to_visa" in page


def test_the_estimate_counts_the_images_once_and_their_features_by_size(reproduced):
    whole = {name: sum(of.normal + of.anomalous for of in CATALOG[name].counts.values()) for name in BENCHMARK}
    # Of each category and label its share of LIMIT, at least one.
    count = sum(
        max(1, round(LIMIT * number / whole[name]))
        for name in BENCHMARK
        for of in CATALOG[name].counts.values()
        for number in (of.normal, of.anomalous)
        if number
    )
    assert f"to encode {count} images" in reproduced.stdout
    # 16 patches and the global feature, 48 numbers of 4 bytes each, and a bit for each of 32 x 32 pixels.
    size = count * (17 * 48 * 4 + 32 * 32 // 8) / 1e6
    assert f"{size:.1f} MB  of features in " in reproduced.stdout
    assert "for 4 of 4 runs that are not done" in reproduced.stdout


def test_the_same_command_does_what_is_missing_and_skips_what_is_done(here, reproduced, command):
    (lost,) = here.glob("runs/mvtec_to_visa/*seed1*/results.csv")
    lost.unlink()
    again = command("targets=[visa]", "out=again")
    assert again.returncode == 0, again.stderr
    assert "for 1 of 2 runs that are not done" in again.stdout
    assert "to encode 0 images" in again.stdout
    assert again.stdout.count("Done before, see ") == 1
    before = table(here).query("dataset == 'visa'").reset_index(drop=True)
    pd.testing.assert_frame_equal(table(here, out="again"), before)


@pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="no Chromium on this machine")
def test_a_browser_without_a_network_shows_the_page_and_reports_no_error(here, reproduced, tmp_path):
    result = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
         "--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom",
         (here / "reproduction" / "report.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "<h2>Published numbers beside ours</h2>" in result.stdout
    assert "do seeds explain it?" in result.stdout
    assert "CONSOLE" not in result.stderr


def test_released_checkpoints_are_evaluated_in_place_of_training(here, reproduced, command):
    for auxiliary in ("visa", "mvtec"):
        (file,) = here.glob(f"runs/{auxiliary}_to_*/*seed0*/checkpoints/released.pth")
        shutil.copy(file, here / f"{auxiliary}.pth")
    settings = SMALL.replace("preset.epochs=1,", "")
    given = ("released=[visa=visa.pth,mvtec=mvtec.pth]", "targets=[headct,visa]", "out=released")
    result = command(*given, seeds="seeds=0", settings=settings)
    assert result.returncode == 0, result.stderr
    assert "draws at inference" in (here / "released" / "report.html").read_text()
    rows = table(here, out="released")
    assert rows.query("mean.notna()")[["auxiliary", "dataset"]].drop_duplicates().to_numpy().tolist() == [
        ["visa", "headct"], ["mvtec", "visa"],
    ]  # fmt: skip
    # The checkpoint is that of seed 0, whose draws those of seed 0 are again.
    frames = [pd.read_csv(next(here.glob(f"runs/{study}/*seed0*/results.csv"))) for study in
              ("visa_to_rest", "released_visa_to_rest")]  # fmt: skip
    of_image = [frame.query("target == 'headct' and level == 'image'")["value"].to_numpy() for frame in frames]
    assert of_image[0] == pytest.approx(of_image[1], abs=1e-6)


@pytest.fixture(scope="module")
def broken(here, command):
    """A check in which nearly every kind of thing is missing or wrong."""
    data = here / "broken"
    data.mkdir()
    for folder in (here / "data").iterdir():
        if folder.name not in ("originals", "BTech_Dataset_transformed"):
            shutil.copytree(folder, data / folder.name, copy_function=os.link)
    next((data / "Kvasir-SEG" / "masks").glob("*.jpg")).unlink()
    next((data / "mvtec_anomaly_detection" / "bottle" / "test" / "good").glob("*.png")).unlink()
    shutil.rmtree(data / "MPDD" / "tubes")
    empty = next((data / "Br35H" / "no").glob("*.jpg"))
    empty.unlink()
    empty.touch()
    torn = data / "head-ct-hemorrhage" / "head_ct" / "head_ct" / "000.png"
    content = torn.read_bytes()
    torn.unlink()
    torn.write_bytes(content[: len(content) // 2])  # its header is whole
    split = data / "VisA_20220922" / "split_csv" / "1cls.csv"
    split.unlink()  # it is a link
    split.write_text("object,split,label,image,mask\n")
    before = set(here.iterdir())
    wrong = ("data=broken", "backbone=vit_b16", "runs=other", "out=broken/head-ct-hemorrhage/page")
    result = command("check", *wrong, settings=f"settings=[data.batch_sice=3,{QUIET}]")
    return result, set(here.iterdir()) - before


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("settings", r"data\.batch_sice is no setting of CopsDataModule\. Did you mean 'data\.batch_size'"),
        ("weights", r"tiny\.pt has SHA-256 [0-9a-f]{64}, so it is another file than OpenAI's"),
        ("visa", r"1cls\.csv lists no image\."),
        ("mvtec", r"bottle, test: normal images found: 19, published: 20\."),
        ("btad", r"btad: broken (is one level too high|has no known layout)"),
        ("mpdd", r"categories missing: 1 of 6, namely tubes\."),
        ("br35h", r"no \d+\.jpg is empty\. Replace the file\."),
        ("headct", r"000\.png"),
        ("kvasir", r"anomalous images without a mask: 1, first images/"),
        ("out", r"lies in broken/head-ct-hemorrhage, a dataset that is read\."),
    ],
)
def test_each_missing_or_wrong_piece_is_named_in_one_list_with_where_to_get_it(broken, what, said):
    result, written = broken
    assert result.returncode == 1
    assert written == set()
    items = re.split(r"\n *\d+\. ", result.stderr)[1:]
    assert len(items) == 10
    (item,) = [item for item in items if item.startswith(f"{what}: ")]
    assert re.search(said, item), item
    if what in CATALOG:
        assert CATALOG[what].url in item
        assert f"{sum(of.normal + of.anomalous for of in CATALOG[what].counts.values()):,} test images" in item
    if what == "weights":
        assert "ViT-B-16" in item
        assert "weights=FILE or the environment variable COPS_CLIP_WEIGHTS" in item


def test_a_released_checkpoint_that_is_none_and_one_that_is_missing_are_named(here, reproduced, command):
    (ours,) = here.glob("runs/visa_to_rest/*seed0*/checkpoints/last.ckpt")
    given = (f"released=[visa={ours},mvtec=nowhere.pth]", "targets=[headct,visa]")
    result = command("check", *given, settings=SMALL.replace("preset.epochs=1,", ""))
    assert result.returncode == 1
    assert "last.ckpt is a checkpoint of this library, not one of the authors'." in result.stderr
    assert "There is no file nowhere.pth." in result.stderr
    assert "error: 2 things are missing or wrong. Nothing was run, and nothing was written." in result.stderr


def test_a_setting_that_does_not_exist_is_explained_as_on_the_command_line_of_training(command):
    result = command("check", "targets=[headct]", settings="settings=[logger=wandbb]")
    assert result.returncode == 1
    assert "logger has no option wandbb. Did you mean 'wandb'?" in result.stderr
    assert "1 thing is missing or wrong." in result.stderr


def test_what_cannot_be_measured_is_one_of_the_things_that_are_wrong(command):
    result = command("check", "targets=[headct]", settings="settings=[model=clip]")
    assert result.returncode == 1
    assert "1 thing is missing or wrong. Nothing was run" in result.stderr
    assert "what the paper is about is CoPS. Leave model= out." in result.stderr
    assert "All is here" not in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("chek",), "cops-reproduce takes the word check or none; got 'chek'. Did you mean 'check'?"),
        (("released=visa.pth",), "Give released=[visa=FILE,mvtec=FILE], each once, or one of them."),
        (("seeds=1,1",), "seeds is [1, 1]; name at least one seed, and each once."),
        (("seeds=one",), "seeds is 'one'; expected list of whole number"),
        (("targets=[magnetic_tile]",), "magnetic_tile is not among the thirteen of the paper"),
        (("released=[mvtec=a.pth]", "targets=[btad]"), "No released checkpoint is for these targets"),
        (
            ("settings=[hydra.sweep.dir=elsewhere]",),
            "settings has hydra.sweep.dir; where the runs lie is said by runs=FOLDER",
        ),
        (("settings=[+hydra.run.dir=elsewhere]",), "settings has +hydra.run.dir; where the runs lie is said by runs="),
        (("backbone=vit_l14_366",), "There is no backbone vit_l14_366. Did you mean 'vit_l14_336'?"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(words, said, command):
    result = command(*words)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert said in line


@pytest.fixture
def full_disk(monkeypatch):
    full = shutil._ntuple_diskusage(10**9, 10**9, 10**6)
    monkeypatch.setattr("cops_lightning.runs.reproduction.shutil.disk_usage", lambda _path: full)


def test_features_of_other_images_are_none_of_these_and_a_full_disk_has_no_room(here, reproduced, command, full_disk):
    kept = [*(here / "cache" / "features").glob("*/??/*.safetensors")]
    for number, entry in enumerate(kept):
        other = here / "other" / "features" / entry.parts[-3] / "00" / f"{number:032x}.safetensors"
        other.parent.mkdir(parents=True, exist_ok=True)
        os.link(entry, other)
    result = command("check", "targets=[headct]", "runs=elsewhere", "cache=other")
    assert result.returncode == 1
    # VisA has 12 categories of two labels, and an image of each at least.
    assert f"to encode {24 + LIMIT} images" in result.stdout
    assert re.search(r"disk: 0\.0 GB of features in other/features, 0\.0 GB of checkpoints in elsewhere", result.stderr)
    assert "another disk for features by cache=FOLDER" in result.stderr


def test_without_a_cache_checkpoints_need_room_all_the_same(command, full_disk):
    settings = SMALL.replace("settings=[", "settings=[callbacks.feature_cache=null,")
    result = command("check", "targets=[headct]", "runs=elsewhere", settings=settings)
    assert result.returncode == 1
    assert "disk: 0.0 GB of checkpoints in elsewhere" in result.stderr
    assert "cache=FOLDER" not in result.stderr


def test_what_is_done_needs_no_room(reproduced, command, full_disk):
    result = command("check", "targets=[visa]")
    assert result.returncode == 0, result.stderr
    assert "for 0 of 2 runs that are not done" in result.stdout


def test_help_teaches_by_example_without_torch(run_command):
    printed = run_command("cops-reproduce", "--help").stdout
    assert "  cops-reproduce check data=/data weights=ViT-L-14-336px.pt" in printed
    code = "import sys; import cops_lightning.cli.reproduce; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "pandas", "lightning", "hydra"}.isdisjoint(loaded)
