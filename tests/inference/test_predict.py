"""A folder of predictions: what is in it, how it goes on, and what is refused."""

import csv
import errno
import gc
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from bad_files import BAD, PIXELS
from cops_lightning.calibration import Calibration
from cops_lightning.clip.weights import clip_from_state
from cops_lightning.core.errors import CopsError, of_system
from cops_lightning.core.names import printable
from cops_lightning.data.readers.pictures import pictures
from cops_lightning.inference.folder import COCO, DISCOVERIES, DRIFT, ROWS, STATE, TABLE, Tally, opened
from cops_lightning.inference.predict import Sources, Wanted, predict_into
from cops_lightning.inference.rows import rows_of
from cops_lightning.models.anomaly_map import Scores
from cops_lightning.models.baselines.pixel_statistics import Brightness
from cops_lightning.models.detector import Detector
from cops_lightning.models.prediction import Rule
from failing_disk import FailingDisk, failing

ALL = Wanted(heatmaps=True, masks=True)
RULE = Rule(0.5, 0.6)
# They differ in folder, suffix or case alone.
NAMES = ["a/1.png", "b/1.png", "b/1.bmp", "b/ü x.png", "A1.png", "a1.png", "b/two\nlines.png", "b/broken.png"]
BROKEN = "b/broken.png"


def predict(root: Path, source: object, detector: Detector, wanted: Wanted = ALL, decides: str = "x", **more) -> Tally:
    with opened(root, {"decides": decides}) as folder:
        return predict_into(folder, detector, Sources([str(source)]), wanted, **{"shown": False, "rule": RULE, **more})


def content(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def json_rows(root: Path) -> list[dict]:
    return [json.loads(line) for line in (root / ROWS).read_text().splitlines()]


def table_rows(root: Path) -> list[dict]:
    with (root / TABLE).open(newline="") as file:
        return list(csv.DictReader(file))


# ---- what is in it


def test_rows_say_to_the_last_digit_what_python_says(detector, photos, tmp_path):
    tally = predict(tmp_path / "out", photos, detector)
    found, listed, tabled = list(detector.outcomes(photos, rule=RULE)), json_rows(tmp_path / "out"), []
    tabled = table_rows(tmp_path / "out")
    labels = [getattr(one, "label", "") for one in found]
    plain = sum(row["regions"] == "0" for row in tabled)
    assert tally == Tally(len(found), 1, labels.count("anomalous"), plain)
    assert len(found) == len(listed) == len(tabled) == 8
    for one, row, cells in zip(found, listed, tabled, strict=True):
        assert row["name"] == cells["name"] == row["path"] == one.picture.name
        if "broken" in row["name"]:
            assert "broken.png cannot be read" in row["error"] == cells["error"]
            assert cells["score"] == cells["regions"] == ""
            assert row["regions"] is None
            continue
        assert row["score"] == float(cells["score"]) == one.score
        assert (row["label"], row["threshold"]) == (cells["label"], float(cells["threshold"])) == (one.label, 0.5)
        assert (row["width"], row["height"]) == (int(cells["width"]), int(cells["height"])) == one.size
        boxes = [(*region["box"], region["area"], region["peak"], region["p_value"]) for region in row["regions"]]
        assert boxes == [tuple(region) for region in one.regions]
        assert int(cells["regions"]) == len(boxes)
        with Image.open(tmp_path / "out" / row["mask"]) as mask:
            assert np.array_equal(np.asarray(mask), one.mask * np.uint8(255))
        with Image.open(tmp_path / "out" / row["heatmap"]) as drawn:
            assert drawn.size == one.size
    assert {row["label"] for row in listed} == {"normal", "anomalous", None}


def test_thresholds_and_a_rule_of_them_give_the_same_files(detector, photos, tmp_path):
    predict(tmp_path / "a", photos, detector)
    predict(tmp_path / "b", photos, detector, rule=None, threshold=RULE.threshold, map_threshold=RULE.map_threshold)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert {row["threshold"] for row in table_rows(tmp_path / "a")} == {"0.5", ""}


def test_no_two_images_share_a_heat_map_whatever_the_file_system_thinks_of_case(detector, photos, tmp_path):
    predict(tmp_path / "out", photos, detector)
    written = [row["heatmap"] for row in json_rows(tmp_path / "out") if row["heatmap"]]
    assert len({name.casefold() for name in written}) == len(written) == 7
    assert sorted(written) == sorted(f"heatmaps/{path.name}" for path in (tmp_path / "out" / "heatmaps").iterdir())


def test_no_name_is_a_formula_in_the_table(detector, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(photos / "a")
    names = ["+1.png", "-1.png", "1.png", "=HYPERLINK(A1).png", "@sum.png"]
    for name in names:
        if name != "1.png":
            shutil.copy("1.png", name)
    predict(tmp_path / "out", "*.png", detector)
    assert [row["name"] for row in json_rows(tmp_path / "out")] == names
    for row, name in zip(table_rows(tmp_path / "out"), names, strict=True):
        assert row["name"] == row["path"] == (name if name == "1.png" else f"'{name}")


def test_regions_are_cocos_annotations(detector, photos, tmp_path):
    predict(tmp_path / "out", photos, detector)
    coco = json.loads((tmp_path / "out" / COCO).read_text())
    rows = json_rows(tmp_path / "out")
    images = {image["id"]: image for image in coco["images"]}
    assert [images[number]["file_name"] for number in images] == [row["name"] for row in rows if row["error"] is None]
    boxes = [
        (images[one["image_id"]]["file_name"], one["bbox"][0] + one["bbox"][2], one["bbox"][1] + one["bbox"][3])
        for one in coco["annotations"]
    ]
    expected = [(row["name"], *region["box"][2:]) for row in rows for region in row["regions"] or ()]
    assert boxes == expected
    assert len(boxes) > 3
    assert {one["category_id"] for one in coco["annotations"]} == {one["id"] for one in coco["categories"]}


def test_what_is_not_wanted_is_not_computed(detector, photos, tmp_path, monkeypatch):
    monkeypatch.setattr("cops_lightning.models.prediction.cv2.resize", None)
    predict(tmp_path / "out", photos, detector, Wanted(regions=False))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {ROWS, TABLE, STATE, ".lock"}
    assert {row["regions"] for row in table_rows(tmp_path / "out")} == {""}


@pytest.mark.parametrize("options", [{"workers": 0}, {"workers": 5}])
def test_files_do_not_depend_on_how_many_threads_decode(detector, photos, tmp_path, options):
    predict(tmp_path / "one", photos, detector, workers=2)
    predict(tmp_path / "other", photos, detector, **options)
    assert content(tmp_path / "one") == content(tmp_path / "other")


# ---- a whole folder


@pytest.fixture(scope="module")
def calibration(detector) -> Calibration:
    """That of 60 dark images."""
    rng = np.random.default_rng(5)
    dark = [rng.integers(40, 90 + shade, (20, 30, 3), dtype=np.uint8) for shade in range(60)]
    return Calibration.of(detector.identity(), detector.predict(dark))


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """30 dark images of which some are repeated, 10 bright ones, and a file that is none."""
    rng, root = np.random.default_rng(6), tmp_path / "mixed"
    root.mkdir()
    for place in range(40):
        pixels = rng.integers(40, 90 + 2 * place, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels + 100 if place % 4 == 0 else pixels).save(root / f"{place:02}.png")
    shutil.copy(root / "05.png", root / "06.png")
    (root / "broken.png").write_bytes(b"no image")
    return root


def discovered(root: Path) -> dict[str, float]:
    with (root / DISCOVERIES).open(newline="") as file:
        return {row["name"]: float(row["q_value"]) for row in csv.DictReader(file)}


def test_what_is_found_in_a_folder_is_what_scipys_false_discovery_control_finds(detector, mixed, calibration, tmp_path):
    root = tmp_path / "out"
    with opened(root, {}) as folder:
        predict_into(folder, detector, Sources([str(mixed)]), Wanted(), shown=False, calibration=calibration)
        rows = [row for row in json_rows(root) if row["error"] is None]
        q = stats.false_discovery_control([row["p_value"] for row in rows], method="bh")
        for rate in (0.001, 0.05, 0.3):
            expected = {row["name"]: value for row, value in zip(rows, q, strict=True) if value <= rate}
            assert folder.write_discoveries(rate) == len(expected)
            assert discovered(root) == pytest.approx(expected)
            assert (len(expected) > 0) == (rate > 0.001), "a p-value is at least 1/61"
        of_images = [{key: row[key] for key in row if key not in ("label", "threshold")} for row in table_rows(root)]
        with (root / DISCOVERIES).open(newline="") as file:
            for row in csv.DictReader(file):
                assert row.pop("q_value")
                assert row in of_images, "without the verdict of a single image, which is another question"
        assert folder.write_discoveries(None) == 0
        assert not (root / DISCOVERIES).exists()


# ---- drift


class Felt(Brightness):
    """Whose features are some of the pixels."""

    def seen(self, images, names, categories):
        return self.score(images, names=names), images[:, 0, ::8, ::8].flatten(1)


def test_a_drift_is_said_whenever_its_rows_are_used_and_stands_in_the_folder_wherever_a_command_was_cut(
    tiny_clip_state, tmp_path, capsys
):
    rng, felt = np.random.default_rng(7), Felt(clip_from_state(tiny_clip_state), image_size=48)
    calibration = Calibration.of(felt.identity(), felt.predict(list(rng.integers(0, 90, (40, 20, 30, 3), np.uint8))))
    for folder, low in (("still", 0), ("moved", 120)):
        (tmp_path / folder).mkdir()
        for number, pixels in enumerate(rng.integers(low, low + 90, (60, 20, 30, 3), np.uint8)):
            Image.fromarray(pixels).save(tmp_path / folder / f"{number:02}.png")

    def said(source: str, out: str) -> str:
        tally = predict(tmp_path / out, tmp_path / source, felt, Wanted(), rule=None, calibration=calibration)
        assert tally.moved == (source == "moved")
        return capsys.readouterr().err

    assert said("still", "a") == ""
    assert json.loads((tmp_path / "a" / DRIFT).read_text()) == {"moved": False, "windows": 2}
    first = said("moved", "b")
    assert "have moved away from those of the calibration" in first
    whole = content(tmp_path / "b")
    assert first == f"warning: {json.loads(whole[DRIFT])['said']}\n"
    assert "of the 50 images from" in first
    assert said("moved", "b") == first, "nothing is scored any more"
    lines = whole[ROWS].splitlines(keepends=True)
    (tmp_path / "b" / ROWS).write_bytes(b"".join(lines[:17]))
    assert said("moved", "b") == first
    assert content(tmp_path / "b") == whole


# ---- going on


def test_a_folder_cut_at_any_byte_goes_on_to_the_same_files(detector, photos, tmp_path):
    predict(tmp_path / "whole", photos, detector)
    whole, rows = content(tmp_path / "whole"), (tmp_path / "whole" / ROWS).read_bytes()
    for end in (0, 7, rows.index(b"\n"), rows.index(b"\n") + 1, len(rows) // 2, len(rows) - 1, len(rows)):
        cut = tmp_path / f"cut{end}"
        shutil.copytree(tmp_path / "whole", cut)
        (cut / COCO).unlink()
        (cut / ROWS).write_bytes(rows[:end])
        (cut / TABLE).write_bytes((cut / TABLE).read_bytes()[: end // 3])
        predict(cut, photos, detector)
        assert content(cut) == whole, end


def test_what_is_done_is_not_predicted_again(detector, photos, tmp_path, monkeypatch):
    first = predict(tmp_path / "out", photos, detector)
    monkeypatch.setattr(Brightness, "score", None)
    assert predict(tmp_path / "out", photos, detector) == first


def test_images_that_come_later_are_added(detector, photos, tmp_path):
    predict(tmp_path / "out", photos, detector)
    shutil.copy(photos / "a1.png", photos / "z.png")
    assert predict(tmp_path / "out", photos, detector).images == 9
    assert json_rows(tmp_path / "out")[-1]["name"] == str(photos / "z.png")


def refused(root: Path, call: Callable[[], object]) -> str:
    before = content(root)
    with pytest.raises(CopsError) as caught:
        call()
    assert content(root) == before, "nothing is changed"
    return str(caught.value)


def test_a_folder_of_other_settings_or_other_images_is_refused(detector, photos, tmp_path):
    root = tmp_path / "out"
    predict(root, photos, detector)
    said = refused(root, lambda: predict(root, photos, detector, decides="y"))
    assert f"{root} holds predictions with decides 'x', now it is 'y'. Repeat the command" in said
    (photos / "A0.png").write_bytes((photos / "a1.png").read_bytes())
    said = refused(root, lambda: predict(root, photos, detector))
    assert f"where {photos}/A0.png comes now: the images have changed." in said
    shutil.rmtree(photos)
    photos.mkdir()
    shutil.copy(tmp_path / "out" / "masks" / os.listdir(root / "masks")[0], photos / "0.png")
    assert "the images have changed" in refused(root, lambda: predict(root, photos, detector))


def test_an_image_that_was_replaced_or_can_be_read_now_is_not_taken_for_the_one_that_is_done(
    detector, photos, tmp_path
):
    root = tmp_path / "out"
    predict(root, photos, detector)
    for name in ("a1.png", "b/broken.png"):
        before = (photos / name).read_bytes()
        (photos / name).write_bytes((photos / "A1.png").read_bytes())
        said = refused(root, lambda: predict(root, photos, detector))
        assert f"holds a prediction of {photos / name}, which is another file now. Restore it" in said
        (photos / name).write_bytes(before)
    predict(root, photos, detector)


def test_no_changed_byte_of_a_row_goes_unnoticed(detector, photos, tmp_path):
    root = tmp_path / "out"
    predict(root, photos, detector)
    rows, rng = (root / ROWS).read_bytes(), np.random.default_rng(0)
    whole = list(rows_of(root / ROWS))
    for place in rng.integers(len(rows) - 1, size=200):
        changed = bytearray(rows)
        changed[place] ^= 1 << int(rng.integers(8))
        (root / ROWS).write_bytes(changed)
        with suppress(CopsError):
            assert list(rows_of(root / ROWS)) == whole
    (root / ROWS).write_bytes(rows.replace(b'"score": 0.', b'"score": 0.1', 1))
    assert "it is not what was written" in refused(root, lambda: predict(root, photos, detector))


@pytest.mark.parametrize("name", [TABLE, ROWS, "heatmaps"])
def test_files_of_something_else_are_left_alone(detector, photos, tmp_path, name):
    root = tmp_path / "out"
    root.mkdir()
    (root / name).write_text("mine")
    assert f"{root} holds {name} of something else" in refused(root, lambda: predict(root, photos, detector))


def test_damaged_files_of_predictions_are_a_sentence(detector, photos, tmp_path):
    root = tmp_path / "out"
    predict(root, photos, detector)
    rows = (root / ROWS).read_bytes()
    (root / ROWS).write_bytes(rows.replace(b"{", b"", 1))
    assert f"Line 1 of {root / ROWS} is no prediction" in refused(root, lambda: predict(root, photos, detector))
    (root / ROWS).write_bytes(rows)
    (root / STATE).write_text("[1")
    assert f"{root / STATE} cannot be read" in refused(root, lambda: predict(root, photos, detector))


def test_a_disk_that_fails_once_anywhere_costs_nothing_and_the_same_command_ends_with_equal_bytes(
    detector, photos, tmp_path
):
    for path in photos.rglob("*.png"):
        if path.name not in ("a1.png", "broken.png"):
            path.unlink()
    with failing(FailingDisk(tmp_path / "whole")) as disk:
        predict(tmp_path / "whole", photos, detector)
    whole, sites = content(tmp_path / "whole"), disk.sites
    assert {site.what for site in sites} >= {"open", "write", "replace"}
    said = []
    for number, site in enumerate(sites):
        root = tmp_path / f"{number}"
        try:
            with failing(FailingDisk(root, number, errno.ENOSPC)):
                predict(root, photos, detector)
        except OSError as error:
            said.append(of_system(error))
        predict(root, photos, detector)
        assert content(root) == whole, site
    # Four notice nothing: two writers of nothing, and two folders that are there already.
    assert len(said) == len(sites) - 4
    for sentence in said:
        assert sentence.startswith(f"{tmp_path}/"), sentence
        assert ": No space left on device. Free some space" in sentence


def test_two_commands_do_not_write_into_one_folder(detector, photos, tmp_path):
    with opened(tmp_path / "out", {"decides": "x"}):
        said = refused(tmp_path / "out", lambda: predict(tmp_path / "out", photos, detector))
    assert "Another command writes predictions into" in said


# ---- stores


def test_rows_of_a_store_are_those_of_the_files_and_its_names_decide_no_place(detector, photos, tmp_path):
    store, names = fsspec.filesystem("memory"), sorted(path.name for path in (photos / "b").iterdir())
    for name in names:
        store.pipe(f"/b/{name}", (photos / "b" / name).read_bytes())
    for name in ("../../up.png", "C:\\x.png", "-rf ~.png", "con.png", "%2e%2e%2fup.png"):
        store.store[f"/b/z/{name}"] = store.store[f"/b/{names[0]}"]
    predict(tmp_path / "stored", "memory://b/", detector)
    predict(tmp_path / "files", photos / "b", detector)
    stored, again, files = (json_rows(tmp_path / name) for name in ("stored", "stored", "files"))
    odd = ["%2e%2e%2fup.png", "-rf ~.png", "C:\\x.png", "con.png"]
    assert [row["name"] for row in stored] == sorted(
        f"memory://b/{name}" for name in [*names, *(f"z/{o}" for o in odd)]
    )
    rows = {row["name"].removeprefix("memory://b/"): row for row in stored}
    for of_file in files:
        row = rows[Path(of_file["name"]).name]
        assert row["path"] == row["name"]
        row["heatmap"], row["mask"] = of_file["heatmap"], of_file["mask"]
        assert row["content"] is None, "a store is not read twice"
        row |= {key: of_file[key] for key in ("content", "check")}
        assert row == json.loads(json.dumps(of_file).replace(str(photos / "b"), "memory://b"))
    written = {path.relative_to(tmp_path / "stored").parts[0] for path in (tmp_path / "stored").rglob("*")}
    assert written == {"heatmaps", "masks", ROWS, TABLE, STATE, COCO, ".lock"}
    assert len(list((tmp_path / "stored" / "heatmaps").iterdir())) == len(stored) - 1
    store.pipe(f"/b/{names[-1]}", store.cat(f"/b/{names[0]}"))
    predict(tmp_path / "stored", "memory://b/", detector)
    assert json_rows(tmp_path / "stored") == again, "of a store only names are compared"
    store.store.clear()


# ---- many


def resident() -> int:
    gc.collect()
    return int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024


@pytest.mark.slow
def test_ten_thousand_images_take_no_more_memory_than_a_thousand_and_go_on_byte_for_byte(
    detector, tmp_path, monkeypatch
):
    rng = np.random.default_rng(0)
    for number in range(10_000):
        path = tmp_path / "many" / f"{number // 1000}" / f"{number:05}.bmp"
        if number < 5:
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)).save(path)
        else:
            path.parent.mkdir(exist_ok=True)
            os.link(tmp_path / "many" / "0" / f"{number % 5:05}.bmp", path)
    held, seen = {}, itertools.count(1)

    def weighed(self, images, **given):
        if (count := next(seen)) in (1_000, 10_000):
            held[count] = resident()
        return Scores(images[:, 0, 0, 0], images[:, 0].flatten(1), self.expand)

    monkeypatch.setattr(Brightness, "score", weighed)
    options = {"wanted": Wanted(regions=False), "workers": 0}
    assert predict(tmp_path / "out", tmp_path / "many", detector, **options).images == 10_000
    assert held[10_000] - held[1_000] < 8 * 2**20
    whole = content(tmp_path / "out")
    for name, size in ((ROWS, 9 * len(whole[ROWS]) // 10), (TABLE, 400_000)):
        (tmp_path / "out" / name).write_bytes(whole[name][:size])
    predict(tmp_path / "out", tmp_path / "many", detector, **options)
    assert content(tmp_path / "out") == whole


# ---- bad files


def test_every_bad_file_is_a_row_with_a_sentence_and_the_good_ones_around_it_are_as_they_are_alone(
    detector, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    listed = ["good.png"]
    Image.fromarray(PIXELS).save("good.png")
    for name, data in BAD.items():
        Path(name).write_bytes(data)
        listed += [name, "good.png"]
    listed += ["nul\0.png", "x" * 300 + ".png"]
    os.mkfifo("fifo.png")
    os.symlink("gone", "dangling.png")
    os.symlink("circle.png", "circle.png")
    Path("folder.png").mkdir()
    Path("list.txt").write_text(
        "\n".join([*listed, "fifo.png", "dangling.png", "circle.png", "folder.png", "absent.png"])
    )
    tally = predict(tmp_path / "out", "list.txt", detector)
    rows = json_rows(tmp_path / "out")
    alone = next(detector.predict("good.png"))
    for row in rows:
        if row["name"] == "good.png":
            assert (row["score"], row["error"]) == (alone.score, None)
        else:
            assert row["score"] is None
            assert re.search(rf"{re.escape(printable(row['name']))}.*[.]$", row["error"]), row
            assert "Traceback" not in row["error"]
            assert len(row["error"]) < 400
    assert tally.images == len(rows)
    assert predict(tmp_path / "out", "list.txt", detector) == tally
    assert tally.unreadable == len(BAD) + 7 >= 38
    assert len(list((tmp_path / "out" / "masks").iterdir())) == len(BAD) + 1
    assert [picture.name for picture in pictures("list.txt")] == [row["name"] for row in rows]
