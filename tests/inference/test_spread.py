"""Predicting over a cluster, as far as this process is concerned: what it sends, checks, writes and warns of."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cops_lightning.calibration import DriftWatch
from cops_lightning.core import cluster as cluster_module
from cops_lightning.core.cluster import Cluster, cluster
from cops_lightning.core.errors import ConfigError, CopsError
from cops_lightning.inference.folder import ROWS, opened
from cops_lightning.inference.predict import Sources, Wanted, predict_into
from cops_lightning.inference.spread import predict_over
from cops_lightning.models.detector import Detector
from cops_lightning.models.module import CopsModule
from cops_lightning.models.prediction import Rule

ALL = Wanted(heatmaps=True, masks=True)
RULE = Rule(0.5, 0.6)
NAMES, BROKEN = [f"{number:02}.png" for number in range(20)], "17.png"


class Elsewhere(Cluster):
    """Does the work here, and notes what each process got; `blind` is what it cannot read."""

    def __init__(self, blind: Path | None = None) -> None:
        self.sent: list[int] = []
        self.blind = blind

    def spread(self, work: Callable, items: Sequence, **_options: Any) -> Iterator:
        for item in items:
            self.sent.append(len(item))
            if self.blind is not None:
                self.blind.rename(self.blind.with_suffix(".away"))
            answer = work(item)
            if self.blind is not None:
                self.blind.with_suffix(".away").rename(self.blind)
            yield answer


def content(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p.name != ".lock"}


def over(root: Path, source: Path, detector: Detector, cluster: Cluster, **options: Any) -> None:
    with opened(root, {}) as folder:
        given = {"shown": False, "device": "cpu", **options}
        predict_over(cluster, folder, detector, Sources([str(source)]), ALL, **given)


def test_a_folder_begun_here_goes_on_over_a_cluster_to_the_same_files_and_nothing_is_sent_twice(
    detector, photos, tmp_path
):
    with opened(tmp_path / "here", {}) as folder:
        predict_into(folder, detector, Sources([str(photos)]), ALL, shown=False, rule=RULE)
    whole, elsewhere = content(tmp_path / "here"), Elsewhere()
    rows = whole[ROWS].splitlines(keepends=True)
    (tmp_path / "here" / ROWS).write_bytes(b"".join(rows[:3]) + rows[3][:9])
    over(tmp_path / "here", photos, detector, elsewhere, rule=RULE)
    assert content(tmp_path / "here") == whole
    assert elsewhere.sent == [8, 8, 1]
    over(tmp_path / "here", photos, detector, elsewhere, rule=RULE)
    assert elsewhere.sent == [8, 8, 1]


def test_thresholds_hold_over_a_cluster_too(detector, photos, tmp_path):
    over(tmp_path / "a", photos, detector, Elsewhere(), rule=RULE)
    over(tmp_path / "b", photos, detector, Elsewhere(), threshold=RULE.threshold, map_threshold=RULE.map_threshold)
    assert content(tmp_path / "a") == content(tmp_path / "b")


@pytest.mark.parametrize(("batch", "sent"), [(1, [8, 8, 4]), (3, [9, 9, 2]), (12, [12, 8])])
def test_a_process_gets_whole_batches(detector, photos, tmp_path, batch, sent):
    elsewhere = Elsewhere()
    over(tmp_path / "there", photos, detector, elsewhere, batch_size=batch)
    assert elsewhere.sent == sent


def test_what_can_be_read_here_and_not_there_is_no_row_but_an_error(detector, photos, tmp_path):
    with pytest.raises(
        CopsError, match=r"10\.png can be read here, but not by a process of the cluster .* URL of a st"
    ):
        over(tmp_path / "there", photos, detector, Elsewhere(photos / "10.png"))
    assert len((tmp_path / "there" / ROWS).read_bytes().splitlines()) == 10
    over(tmp_path / "there", photos, detector, Elsewhere())
    assert len((tmp_path / "there" / ROWS).read_bytes().splitlines()) == 20


def test_drift_is_watched_here_in_the_order_of_the_images(tiny_backbone, photos, tmp_path, monkeypatch, capsys):
    detector, seen = CopsModule(backbone=tiny_backbone).model, []

    class Watch(DriftWatch):
        def __init__(self) -> None:
            self.windows, self.found = 1, None

        def add(self, name: str, distance: float) -> None:
            seen.append((Path(name).name, distance))

        def close(self) -> str:
            return "The images have moved."

    felt = replace(RULE, distance=lambda feature: float(feature.shape[0]))
    monkeypatch.setattr(
        detector, "ruled", lambda *, rule, calibration, **_more: (rule or felt, Watch() if calibration else None)
    )
    over(tmp_path / "there", photos, detector, Elsewhere(), calibration="calibration.json")
    assert capsys.readouterr().err == "warning: The images have moved.\n"
    assert seen == [(f"{number:02}.png", detector.backbone.width) for number in range(20) if number != 17]


def test_without_ray_the_way_to_install_it_is_said(monkeypatch):
    monkeypatch.setattr(cluster_module, "find_spec", lambda name: None if name == "pyarrow" else name)
    with pytest.raises(ConfigError, match=r"over=ray needs .* pip install 'cops_lightning\[ray\]'"), cluster():
        pass
