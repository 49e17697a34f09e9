"""Published numbers beside ours: what one more seed would give, which differences it explains, and the page of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from cli.studies import write_run
from cops_lightning.report.collect import collect
from cops_lightning.report.page import MINUS, write_page
from cops_lightning.report.published import differences, published
from cops_lightning.report.reproduction import Reproduction, build_reproduction, rows_of
from cops_lightning.report.stats.prediction import one_more
from cops_lightning.runs.identity import identify
from cops_lightning.runs.reproduction import Experiment, experiments

PAIRS = [("visa", "btad"), ("visa", "headct"), ("visa", "isic"), ("mvtec", "visa")]
NAMES = {"btad": "BTAD", "headct": "HeadCT", "isic": "ISIC 2016", "visa": "VisA", "mvtec": "MVTec-AD"}


def known(target: str, level: str, metric: str) -> float:
    """What the authors published, in percent."""
    rows = published().query("model == 'CoPS' and target == @target and level == @level and metric == @metric")
    return 100 * float(rows["value"].iloc[0])


def reproduction(folder: Path, values: dict[str, list[float]], **more) -> Reproduction:
    """Runs whose image AUROC, by target, takes these values by seed, in percent; other metrics are 90 %."""
    seeds = max(map(len, values.values()))
    for auxiliary in ("visa", "mvtec"):
        for seed in range(seeds):
            of_seed = {
                target: [values[target][seed] / 100, 0.9, 0.9, 0.9, 0.9] for on, target in PAIRS if on == auxiliary
            }
            settings = {"auxiliary": auxiliary}
            write_run(folder / f"{auxiliary}{seed}", of_seed, seed=seed, auxiliary=auxiliary, settings=settings)
    return Reproduction(collect([folder]), PAIRS, NAMES, range(seeds), **more)


def alike(*values: float) -> dict[str, list[float]]:
    return {target: list(values) for _, target in PAIRS}


def answers(found: Reproduction) -> dict[str, str]:
    """Of image AUROC, by target."""
    rows = rows_of(found).query("level == 'image' and metric == 'auroc'")
    return dict(zip(rows["dataset"], rows["answer"], strict=True))


@pytest.mark.parametrize("values", [[1.0, 2.0], [93.1, 94.0, 93.6], [0.2, 0.4, 0.1, 0.5, 0.9]])
def test_one_more_seed_would_fall_where_a_regression_on_a_constant_predicts_it(values):
    predicted = sm.OLS(values, np.ones(len(values))).fit().get_prediction([1.0]).conf_int(obs=True)[0]
    assert one_more(values) == pytest.approx(tuple(predicted))


def test_of_one_seed_no_interval_is_known():
    assert one_more([90.0]) is None


def test_of_a_hundred_further_seeds_the_interval_holds_ninety_five():
    draws = np.random.default_rng(0).normal(90, 1, (4000, 4))
    inside = [low <= further <= high for *of, further in draws.tolist() for low, high in [one_more(of)]]
    # A binomial count: 4000 draws of 95 %, give or take four standard deviations.
    assert abs(np.mean(inside) - 0.95) < 4 * stats.binom(4000, 0.95).std() / 4000


def test_a_difference_within_the_spread_is_explained_and_one_beyond_it_is_higher_or_lower(tmp_path):
    at = {target: known(target, "image", "auroc") for target in ("btad", "headct", "visa")}
    found = reproduction(
        tmp_path,
        {
            "btad": [at["btad"] - 1.2, at["btad"] - 0.4, at["btad"] + 0.4],
            "headct": [at["headct"] + 1.9, at["headct"] + 2.0, at["headct"] + 2.1],
            "isic": [50.0, 50.0, 50.0],
            "visa": [at["visa"] - 2.1, at["visa"] - 2.0, at["visa"] - 1.9],
        },
    )
    # The interval of three seeds is 4.30 * 1.155 = 4.97 standard deviations to either side: 4.0 of 0.8, 0.5 of 0.1.
    assert answers(found) == {"btad": "inside", "headct": "higher", "visa": "lower", "isic": "none"}


def test_a_spread_that_would_explain_anything_explains_nothing(tmp_path):
    values = {target: [known(target, "image", "auroc") - 4, known(target, "image", "auroc")] for target in NAMES
              if target in ("btad", "headct", "visa")}  # fmt: skip
    assert set(answers(reproduction(tmp_path, {**values, "isic": [1.0, 1.0]})).values()) == {"open", "none"}


def test_of_one_seed_it_cannot_be_said_unless_the_numbers_are_equal_as_they_are_printed(tmp_path):
    at = {target: known(target, "image", "auroc") for target in ("btad", "headct", "visa")}
    values = {"btad": [at["btad"] + 0.04], "headct": [at["headct"] + 0.3], "visa": [at["visa"] - 9], "isic": [1.0]}
    found = reproduction(tmp_path, values)
    assert answers(found) == {"btad": "equal", "headct": "open", "visa": "open", "isic": "none"}
    page = build_reproduction(found)
    assert page.answer[0] == (
        "9 published numbers: 1 equal here to the last digit, 0 higher here than seeds explain, 0 lower here than "
        "seeds explain, 8 of which it cannot be said, as seeds are too few."
    )
    assert any("a single seed" in caution for caution in page.warnings)


def test_what_nobody_published_has_an_empty_cell_and_what_was_not_run_too(tmp_path):
    found = reproduction(tmp_path, alike(90.0, 91.0))
    rows = rows_of(Reproduction(found.collection, [*PAIRS, ("visa", "endo")], NAMES, (0, 1)))
    aupro = rows.query("metric == 'aupro'")
    assert aupro["published"].isna().all()
    assert aupro["mean"].notna().all()
    endo = rows.query("dataset == 'endo'")
    assert set(endo["metric"]) == {"auroc", "ap"}
    assert endo["mean"].isna().all()
    assert set(endo["answer"]) == {"none"}


def test_the_page_says_what_differs_before_it_shows_a_number(tmp_path):
    found = reproduction(
        tmp_path / "runs",
        alike(90.0, 91.0, 92.0),
        missing=["The run on visa with seed 3 was not begun."],
        needs=["weights: <b>&"],
        commands=["cops-train -m seed=0,1,2"],
    )
    page = build_reproduction(found)
    assert page.warnings[0].startswith("This is no reproduction: the runs are not of the published protocol (backbone ")
    assert page.warnings[-1] == "The run on visa with seed 3 was not begun."
    write_page(page, tmp_path / "page")
    html, text = ((tmp_path / "page" / f"report.{end}").read_text() for end in ("html", "md"))
    for section in page.sections:
        assert f"<h2>{section.title}</h2>" in html
        assert f"## {section.title}\n" in text
    assert "<b>&" not in html
    assert f"| BTAD | image AUROC | 93.6 | 91.0 | {MINUS}2.6 | yes | 1.00 | 3 | 86.0 to 96.0 | VisA |" in text
    assert "data.mask\\_threshold=released" in text
    write_page(build_reproduction(found), tmp_path / "again")
    assert all(
        path.read_bytes() == (tmp_path / "again" / path.relative_to(tmp_path / "page")).read_bytes()
        for path in (tmp_path / "page").rglob("*.*")
    )


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("data.mask_threshold=dataset", "data.mask_threshold is dataset"),
        ("data.orientation=viewer", "data.orientation is viewer"),
        ("data.batch_size=3", "data.batch_size is 3"),
        ("data.categories=[candle]", "data.categories is ['candle']"),
        ("optimizer.lr=0.5", "optimizer.lr is 0.5"),
        ("trainer.limit_train_batches=2", "trainer.limit_train_batches is 2"),
        ("backbone.precision=bf16", "backbone.precision is bf16"),
        ("data.num_workers=3", None),
        ("trainer.accelerator=cpu", None),
    ],
)
def test_every_setting_that_can_change_a_number_makes_it_no_reproduction(tmp_path, setting, said, planned):
    found = reproduction(tmp_path, alike(90.0, 91.0), protocols={"mvtec": planned.protocol()})
    for file in tmp_path.glob("mvtec*/run.json"):
        record = json.loads(file.read_text())
        changed = replace(planned, settings=(setting,))
        record["method_settings"] = identify(changed.config(0), {}).method_settings
        assert differences(record, planned.protocol()) == ([] if said is None else [said])
        file.write_text(json.dumps(record))
    page = build_reproduction(replace(found, collection=collect([tmp_path])))
    assert (said is None) or said in page.warnings[0]


@pytest.fixture(scope="module")
def planned() -> Experiment:
    """The experiment that trains on MVTec-AD, without settings of a user."""
    return experiments(["visa"], [], [], {})[0]


def test_released_weights_are_of_the_published_protocol_where_backbone_and_images_are(tmp_path):
    found = reproduction(tmp_path, alike(90.0, 91.0))
    for file in tmp_path.glob("*/run.json"):
        record = json.loads(file.read_text())
        record["backbone"] |= {"name": "ViT-L-14-336-quickgelu", "published_by_openai": True}
        record["method_settings"] = {"checkpoint": "0" * 64, "backbone": {"image_size": 518}, "data": {"limit": None}}
        file.write_text(json.dumps(record))
    released = Reproduction(collect([tmp_path]), PAIRS, found.names, (0, 1), released=True)
    assert [caution for caution in build_reproduction(released).warnings if "no reproduction" in caution] == []
    assert any("draws at inference" in caution for caution in build_reproduction(released).warnings)
