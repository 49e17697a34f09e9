"""A tiny detector, exported once in every format, and what the files are held to."""

import csv
import io
import json
import logging
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from cops_lightning.benchmark import exported as measured
from cops_lightning.benchmark.measure import largest_difference
from cops_lightning.calibration import Calibration, Identity
from cops_lightning.cli import export as cli
from cops_lightning.cli import predict as predicting
from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.clip.weights import clip_from_state
from cops_lightning.core.errors import CalibrationError, ConfigError
from cops_lightning.core.types import Features
from cops_lightning.export import formats
from cops_lightning.export import run as exporting
from cops_lightning.export.description import KEY, Description, ExportError
from cops_lightning.export.engines import open_exported
from cops_lightning.export.graph import ExportedGraph
from cops_lightning.export.parity import Parity, Trial, original, rendered
from cops_lightning.export.run import described, export, report_of
from cops_lightning.export.runtime import ExportedDetector
from cops_lightning.models.anomaly_map import Scores
from cops_lightning.models.anomalyclip import AnomalyCLIP
from cops_lightning.models.baselines.clip import PlainClip
from cops_lightning.models.baselines.winclip import WinClip
from cops_lightning.models.cops import CoPS
from cops_lightning.models.cops.settings import Components, Readings, Sizes
from cops_lightning.models.detector import FeatureDetector
from released import released_cops
from tiny import save_image

SIDE = 48


@pytest.fixture(scope="module", autouse=True)
def _sizes_of_a_trace_are_symbols() -> Iterator[None]:
    """While a graph is traced its number of images is no int, which annotated shapes expect."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def detector(tiny_clip_state: dict[str, torch.Tensor]) -> CoPS:
    torch.manual_seed(0)
    return released_cops(tiny_clip_state, None, auxiliary="visa", image_size=SIDE, sizes=Sizes(class_samples=3))


@pytest.fixture(scope="module")
def trial() -> Trial:
    return rendered(SIDE, 6)


@pytest.fixture(scope="module")
def traced_once(detector: CoPS, _sizes_of_a_trace_are_symbols: None) -> Iterator[None]:
    """Tracing takes seconds, and the detector is the same throughout."""
    program, once = ExportedGraph(detector).traced(), cache(formats.onnx_of)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ExportedGraph, "traced", lambda _graph: program)
        patched.setattr(formats, "onnx_of", lambda given: _copy(once(given)))
        yield


@pytest.fixture(scope="module")
def exported(
    detector: CoPS, trial: Trial, traced_once: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Parity]:
    path = tmp_path_factory.mktemp("exported") / "detector.onnx"
    said = replace(described(detector), threshold=0.5, map_threshold=0.25)
    return path, export(detector, path, "onnx", trial=trial, description=said)


def test_prompts_that_no_image_changes_are_constants_of_the_graph(tiny_clip_state: dict[str, torch.Tensor]) -> None:
    static = released_cops(
        tiny_clip_state, None, auxiliary="visa", image_size=SIDE, components=Components(states=False, classes=False)
    )
    program = ExportedGraph(static).traced()
    read = {tuple(weight.shape) for weight in program.constants.values()}
    assert tuple(static.backbone.clip.text_projection.shape) not in read
    pixels = rendered(SIDE, 3).pixels
    score, maps, _ = program.module()(torch.from_numpy(pixels))
    found = original(static, Trial(pixels, "rendered"))
    np.testing.assert_allclose(score.numpy(), found.score, atol=1e-6)
    np.testing.assert_allclose(maps.numpy(), found.map, atol=1e-6)


class Own(FeatureDetector):
    """A detector of one's own, which scores by the norms of features."""

    def score_features(self, features: Features, **_given: Any) -> Scores:
        image, patch = (part.norm(dim=-1) for part in (features.image, features.patches))
        return Scores(image=image / (image + 1), patch=patch / (patch + 1), expand=self.expand)

    def graph_scores(self) -> Callable[[Features], Scores]:
        return self.score_features


@pytest.mark.parametrize("kind", [AnomalyCLIP, PlainClip, Own])
def test_detectors_that_say_how_a_graph_scores_are_graphs_too(
    kind: type[AnomalyCLIP] | type[PlainClip] | type[Own], wordy_clip_state: dict[str, torch.Tensor]
) -> None:
    model = kind(clip_from_state(wordy_clip_state), image_size=SIDE).eval()
    trial = Trial(rendered(SIDE, 3).pixels, "rendered")
    score, maps, features = ExportedGraph(model).traced().module()(torch.from_numpy(trial.pixels))
    found = original(model, trial)
    np.testing.assert_allclose(score.detach().numpy(), found.score, atol=1e-6)
    np.testing.assert_allclose(maps.detach().numpy(), found.map, atol=1e-5)
    np.testing.assert_allclose(features.detach().numpy(), found.feature, atol=1e-6)


def test_a_file_finds_what_the_detector_finds(exported: tuple[Path, Parity]) -> None:
    path, parity = exported
    assert max(parity.score, parity.map, parity.feature) < 1e-5
    report = json.loads(report_of(path).read_text())
    assert report["parity"]["score"] == parity.score
    assert report["bytes"] == path.stat().st_size
    assert (report["inputs"], report["outputs"]) == (["pixels"], ["score", "map", "feature"])


def test_a_file_predicts_image_files_as_the_detector_does_with_its_own_rule(
    exported: tuple[Path, Parity], detector: CoPS, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for name, shape in (("a.png", (30, 70, 3)), ("b.png", (90, 40, 3))):
        save_image(rng.integers(0, 256, shape).astype(np.uint8), tmp_path / name)
    found = list(ExportedDetector(exported[0], library="onnxruntime").predict(tmp_path))
    expected = list(detector.predict(tmp_path))
    for one, other in zip(found, expected, strict=True):
        assert (one.path, one.size) == (other.path, other.size)
        assert one.score == pytest.approx(other.score, abs=1e-5)
        np.testing.assert_allclose(one.map, other.map, atol=1e-5)
        assert one.label == ("anomalous" if one.score > 0.5 else "normal")
        assert one.rule.map_threshold == 0.25


@pytest.mark.parametrize(
    ("given", "threshold", "map_threshold"),
    [({"map_threshold": 0.3}, 0.5, 0.3), ({"threshold": 0.0}, 0.0, 0.25), ({}, 0.5, 0.25)],
)
def test_a_threshold_that_is_not_given_is_that_of_the_file(
    exported: tuple[Path, Parity], trial: Trial, given: dict[str, float], threshold: float, map_threshold: float
) -> None:
    (found,) = ExportedDetector(exported[0], library="onnxruntime").predict(trial.pixels[0], **given)
    assert (found.threshold, found.rule.map_threshold) == (threshold, map_threshold)
    assert found.label == ("anomalous" if found.score > threshold else "normal")


def test_a_file_takes_batches_of_any_size_and_no_image_depends_on_another(exported: tuple[Path, Parity]) -> None:
    pixels = rendered(SIDE, 5).pixels
    engine = open_exported(exported[0], library="onnxruntime")
    together, alone = engine.run(pixels), [engine.run(one[None]) for one in pixels]
    np.testing.assert_allclose(together.score, [one.score[0] for one in alone], atol=1e-6)
    assert together.map.shape == (5, SIDE, SIDE)


def test_a_file_holds_neither_paths_of_this_machine_nor_weights_that_it_does_not_read(
    exported: tuple[Path, Parity], detector: CoPS
) -> None:
    content = exported[0].read_bytes()
    assert b"site-packages" not in content
    assert str(Path(__file__).parents[2]).encode() not in content
    held = {tuple(weight.dims) for weight in onnx.load(exported[0]).graph.initializer}
    assert tuple(detector.backbone.clip.token_embedding.weight.shape) not in held


def test_a_file_that_differs_by_more_than_the_bound_is_refused_and_none_is_left(
    detector: CoPS, trial: Trial, traced_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = lambda *given: original(*given)._replace(score=np.full(len(trial.pixels), 0.9))  # noqa: E731
    monkeypatch.setattr(exporting, "original", wrong)
    with pytest.raises(ExportError, match=r"differs from its original by .* the bound is 1e-04. Nothing was written"):
        export(detector, tmp_path / "detector.onnx", "onnx", trial=trial)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def archive(
    detector: CoPS, trial: Trial, traced_once: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Parity]:
    path = tmp_path_factory.mktemp("archive") / "detector.pt2"
    return path, export(detector, path, "torch_export", trial=trial)


def test_an_archive_is_computed_here_as_by_torch_itself_in_batches_of_any_size(
    archive: tuple[Path, Parity], detector: CoPS
) -> None:
    path, parity = archive
    assert max(parity.score, parity.map) < 1e-5
    extra, pixels = {f"{KEY}.json": ""}, rendered(SIDE, 3).pixels
    score, maps, features = torch.export.load(path, extra_files=extra).module()(torch.from_numpy(pixels))
    assert Description.read(extra[f"{KEY}.json"], "it") == described(detector)
    opened = ExportedDetector(path)
    assert (opened.identity(), opened.library) == (detector.identity(), "torch")
    found = opened.score(pixels)
    np.testing.assert_allclose(found.score, score.numpy(), atol=1e-6)
    np.testing.assert_allclose(found.map, maps.numpy(), atol=1e-6)
    np.testing.assert_allclose(found.feature, features.numpy(), atol=1e-6)
    assert [one.score for one in opened.predict(list(pixels))] == pytest.approx(found.score, abs=1e-6)


def test_an_archive_holds_no_paths_of_this_machine(archive: tuple[Path, Parity]) -> None:
    content = archive[0].read_bytes()
    assert b"site-packages" not in content
    assert str(Path(__file__).parents[2]).encode() not in content


class _Writes:
    """What a pickle of it does when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def _rewritten(path: Path, made: Path, change: Callable[[str, bytes], bytes | None], method: int = 0) -> Path:
    """An archive with other members, those for which `change` gives None left out."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(made, "w", method) as target:
        for name in source.namelist():
            if (content := change(name, source.read(name))) is not None:
                target.writestr(name, content)
    return made


def test_a_pickle_that_torch_would_run_is_not_even_read(
    archive: tuple[Path, Parity], trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = io.BytesIO()
    torch.save(((_Writes(tmp_path / "ran"),), {}), held)
    foreign = _rewritten(
        archive[0],
        tmp_path / "foreign.pt2",
        lambda name, content: held.getvalue() if "sample_inputs" in name else content,
    )
    found = open_exported(foreign).run(trial.pixels)
    np.testing.assert_array_equal(found.score, open_exported(archive[0]).run(trial.pixels).score)
    assert not (tmp_path / "ran").exists()
    monkeypatch.setattr(logging.getLogger("torch._export.serde.serialize"), "disabled", True)
    torch.export.load(foreign)
    assert (tmp_path / "ran").exists(), "so it would have been seen"


def _in_model(change: Callable[[Any], object]) -> Callable[[str, bytes], bytes]:
    def changed(name: str, content: bytes) -> bytes:
        if not name.endswith("models/model.json"):
            return content
        model = json.loads(content)
        change(model)
        return json.dumps(model).encode()

    return changed


def _node(**values: Any) -> Callable[[str, bytes], bytes]:
    return _in_model(lambda model: model["graph_module"]["graph"]["nodes"][-1].update(values))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_node(target="torch.os.system"), "asks for the operation torch.os.system, which no exported detector has"),
        (_node(target="torch.hub.load"), "asks for the operation torch.hub.load"),
        (_node(target="torch.ops.aten.from_file.default"), "asks for the operation torch.ops.aten.from_file.default"),
        (_node(target="torch.ops.higher_order.cond"), "asks for the operation"),
        (_node(target="#namespace:operation"), "asks for the operation"),
        (_node(target="_operator.attrgetter"), "asks for the operation _operator.attrgetter"),
        (_node(inputs=[{"name": "x", "arg": {"as_graph": {}}, "kind": 1}]), "holds as_graph, which no exported"),
        (_node(inputs=[{"name": "x", "arg": {"as_scalar_type": 99}, "kind": 1}]), "holds numbers of type 99"),
        (_in_model(lambda model: model["schema_version"].update(major=9)), "of torch's schema, not 8"),
        (_in_model(lambda model: model.clear()), "cannot be opened"),
        (_in_model(lambda model: model["graph_module"]["graph"]["outputs"].pop()), "cannot be opened|and gives"),
        (
            lambda name, content: content.replace(b'"use_pickle": false', b'"use_pickle": true'),
            "is a pickle, and only tensors are read",
        ),
        (
            lambda name, content: content.replace(
                b'"storage_offset": {"as_int": 0}', b'"storage_offset": {"as_int": 9}'
            ),
            "out of bounds",
        ),
        (lambda name, content: None if "extra/" in name else content, "cannot be opened"),
        (lambda name, content: b"[" if "extra/" in name else content, "has '\\[' as its description"),
        (lambda name, content: None if name.endswith("tensor_3") else content, "cannot be opened"),
    ],
)
def test_an_archive_that_is_not_what_it_should_be_is_refused(
    archive: tuple[Path, Parity], tmp_path: Path, change: Callable[[str, bytes], bytes | None], reason: str
) -> None:
    with pytest.raises(ExportError, match=reason):
        open_exported(_rewritten(archive[0], tmp_path / "other.pt2", change))


def test_an_archive_that_unfolds_or_is_cut_short_is_refused(archive: tuple[Path, Parity], tmp_path: Path) -> None:
    packed = _rewritten(archive[0], tmp_path / "packed.pt2", lambda _, content: content, zipfile.ZIP_DEFLATED)
    with pytest.raises(ExportError, match="it unfolds to more than it has bytes"):
        open_exported(packed)
    (tmp_path / "cut.pt2").write_bytes(archive[0].read_bytes()[:-5000])
    with pytest.raises(ExportError, match="cannot be opened .*in the archive|not a zip file"):
        open_exported(tmp_path / "cut.pt2")
    damaged = bytearray(archive[0].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "damaged.pt2").write_bytes(damaged)
    with pytest.raises(ExportError, match="Bad CRC-32"):
        open_exported(tmp_path / "damaged.pt2")
    with pytest.raises(ConfigError, match="is computed by torch, in fp32"):
        open_exported(archive[0], precision="bf16")


def test_detectors_and_settings_that_are_no_graph_of_one_image_are_refused(detector: CoPS) -> None:
    with pytest.raises(ConfigError, match="WinClip cannot be exported"):
        ExportedGraph(WinClip.__new__(WinClip))
    whole = CoPS(detector.backbone, image_size=SIDE, readings=Readings(distance_range="batch"))
    with pytest.raises(ConfigError, match="distance_range=batch"):
        ExportedGraph(whole)


def test_openvino_runs_the_same_file_and_in_bf16_only_where_no_threshold_is_kept(
    exported: tuple[Path, Parity], trial: Trial, detector: CoPS
) -> None:
    engine = open_exported(exported[0])
    assert (engine.library, engine.precision) == ("openvino", "fp32"), "it holds a threshold"
    found, expected = engine.run(trial.pixels), original(detector, trial)
    np.testing.assert_allclose(found.score, expected.score, atol=5e-5)
    np.testing.assert_allclose(found.map, expected.map, atol=5e-5)


def test_openvinos_own_format_agrees_and_is_two_files(
    detector: CoPS, trial: Trial, traced_once: None, tmp_path: Path
) -> None:
    parity = export(detector, tmp_path / "detector.xml", "openvino", trial=trial)
    assert max(parity.score, parity.map) < 5e-5
    assert {"detector.xml", "detector.bin"} < {file.name for file in tmp_path.iterdir()}
    opened = ExportedDetector(tmp_path / "detector.xml", precision="fp32")
    assert opened.identity() == detector.identity()
    with pytest.raises(ConfigError, match="draws=image"):
        next(opened.predict(trial.pixels[0], draws="image"))
    for name in ("detector.bin", "detector.xml"):
        content = (tmp_path / name).read_bytes()
        other = bytearray(content)
        other[len(content) // 2] ^= 64
        (tmp_path / name).write_bytes(other)
        with pytest.raises(ExportError, match=r"detector\.xml is not what cops-export wrote"):
            ExportedDetector(tmp_path / "detector.xml")
        (tmp_path / name).write_bytes(content)
    (tmp_path / "detector.bin").unlink()
    with pytest.raises(ExportError, match=r"There is no file .*detector\.bin"):
        ExportedDetector(tmp_path / "detector.xml")


def test_int8_is_smaller_and_says_what_it_loses(
    detector: CoPS, trial: Trial, traced_once: None, exported: tuple[Path, Parity], tmp_path: Path
) -> None:
    path = tmp_path / "small.onnx"
    parity = export(detector, path, "onnx", number="int8", trial=replace(trial, labels=None, masks=None))
    assert (parity.bound, parity.losses) == (None, None)
    assert 1e-6 < parity.score < 0.2, "it is another file, and still the same detector"
    assert path.stat().st_size < exported[0].stat().st_size
    engine = open_exported(path)
    assert (engine.precision, engine.library) == ("int8", "onnxruntime")


def test_a_loss_of_auroc_above_half_a_point_is_refused() -> None:
    lossy = Parity("rendered", 10, 0.1, 0.1, 0.1, None, 90.0, 89.9, 80.0, 79.4)
    assert lossy.losses == pytest.approx((0.1, 0.6))
    with pytest.raises(ExportError, match="loses 0.10 points of image AUROC and 0.60 of pixel AUROC"):
        lossy.require("onnx in int8")
    replace(lossy, pixel_auroc_exported=79.6).require("onnx in int8")


def test_a_gain_that_rounds_to_nothing_is_no_minus_in_the_table(tmp_path: Path) -> None:
    (tmp_path / "parts.onnx").touch()
    gained = Parity("rendered", 10, 0.1, 0.1, 0.1, None, 90.0, 90.001, 80.0, 80.0)
    lost = list(exporting.table(tmp_path / "parts.onnx", gained).columns[3].cells)
    assert lost[-2:] == ["0.00 lost", "0.00 lost"]


def test_a_calibration_in_a_file_gives_its_predictions_thresholds_and_p_values(
    exported: tuple[Path, Parity], detector: CoPS, trial: Trial, tmp_path: Path, capsys: Any
) -> None:
    calibration = Calibration.of(detector.identity(), detector.predict(list(trial.pixels)), level=0.25)
    model = onnx.load(exported[0])
    entry = next(one for one in model.metadata_props if one.key == KEY)
    entry.value = described(detector).calibrated(calibration).text()
    save(model, tmp_path / "calibrated.onnx")
    opened = ExportedDetector(tmp_path / "calibrated.onnx", precision="auto")
    assert opened.precision == "fp32", "which was calibrated"
    (found,) = opened.predict(trial.pixels[0])
    assert found.threshold == calibration.threshold
    assert found.p_value == calibration.p_value(found.score)
    for key in ("threshold", "map_threshold"):
        with pytest.raises(ConfigError, match=f"^{key} is given, and the exported file holds a calibration"):
            opened.predict(trial.pixels[0], **{key: 0.3})
        save_image(trial.pixels[0], tmp_path / "photos" / "0.png")
        words = [str(tmp_path / "photos"), f"checkpoint={opened.path}", f"out={tmp_path / 'found'}", f"{key}=0.3"]
        assert predicting.main(words) == 1
        assert f"Leave out {key}, or predict with the checkpoint" in capsys.readouterr().err
        assert not (tmp_path / "found").exists()
    with pytest.raises(CalibrationError, match="image size 56 instead of 48"):
        next(opened.predict(trial.pixels[0], calibration=replace(calibration, identity=_another(calibration))))


def test_a_stream_that_moves_away_from_the_calibration_in_a_file_is_warned_of_as_by_the_detector(
    exported: tuple[Path, Parity], detector: CoPS, tmp_path: Path, capsys: Any
) -> None:
    rng = np.random.default_rng(0)
    like = [rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(60)]
    moved = [(image // 3) for image in like[:20]]
    calibration = Calibration.of(detector.identity(), detector.predict(like[:40], batch_size=8))
    model = onnx.load(exported[0])
    next(one for one in model.metadata_props if one.key == KEY).value = (
        described(detector).calibrated(calibration).text()
    )
    save(model, tmp_path / "calibrated.onnx")
    opened = ExportedDetector(tmp_path / "calibrated.onnx", library="onnxruntime")
    list(opened.predict(like[40:]))
    assert capsys.readouterr().err == ""
    said = []
    for one, options in ((opened, {}), (detector, {"calibration": calibration})):
        list(one.predict(moved, batch_size=8, **options))
        said.append(capsys.readouterr().err)
    assert said[0] == said[1]
    assert "of the 20 images from image 1 to image 20 the features lie at a median distance" in said[0]
    with pytest.raises(ConfigError, match="does not hold for int8"):
        export(detector, tmp_path / "small.onnx", "onnx", number="int8", description=opened.description)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: model.ClearField("metadata_props"), "does not say what detector it is"),
        (lambda model: _describe(model, image_size=-3), "has -3 as its image_size"),
        (lambda model: _describe(model, image_size=56), "expected pixels of uint8"),
        (lambda model: _describe(model, threshold=float("nan")), "not finite|NaN|threshold"),
        (lambda model: setattr(model.graph.output[0], "name", "class"), "cannot be opened|and gives"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused(
    exported: tuple[Path, Parity], tmp_path: Path, change, reason: str
) -> None:
    model = onnx.load(exported[0])
    change(model)
    save(model, tmp_path / "other.onnx")
    for library in ("onnxruntime", "openvino"):
        with pytest.raises(ExportError, match=reason):
            open_exported(tmp_path / "other.onnx", library=library)


def test_an_onnx_file_gets_no_file_beside_it(exported: tuple[Path, Parity], tmp_path: Path) -> None:
    model = onnx.load(exported[0])
    save(model, tmp_path / "split.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    for library, said in (("onnxruntime", "cannot be opened"), ("openvino", "has weights in other files")):
        with pytest.raises(ExportError, match=said):
            open_exported(tmp_path / "split.onnx", library=library)


def test_an_onnx_file_that_is_cut_short_is_refused(exported: tuple[Path, Parity], tmp_path: Path) -> None:
    cut = tmp_path / "cut.onnx"
    for sealed, said in ((False, "is not what cops-export wrote"), (True, "cannot be opened")):
        cut.write_bytes(exported[0].read_bytes()[:-5000])
        if sealed:
            formats.seal(cut)
        for library in ("onnxruntime", "openvino"):
            with pytest.raises(ExportError, match=said):
                open_exported(cut, library=library)


def test_an_onnx_function_gets_no_file_beside_it_either(exported: tuple[Path, Parity], tmp_path: Path) -> None:
    model = onnx.load(exported[0])
    value = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "secret")
    value.ClearField("raw_data")
    value.data_location = onnx.TensorProto.EXTERNAL
    value.external_data.add(key="location", value="../secret")
    node = onnx.helper.make_node("Constant", [], ["y"], value=value)
    opset = [onnx.helper.make_opsetid("", formats.OPSET)]
    model.functions.append(onnx.helper.make_function("own", "f", [], ["y"], [node], opset))
    save(model, tmp_path / "function.onnx")
    with pytest.raises(ExportError, match="has weights in other files"):
        open_exported(tmp_path / "function.onnx", library="openvino")


def test_no_flipped_bit_of_an_onnx_file_goes_unnoticed(exported: tuple[Path, Parity], tmp_path: Path) -> None:
    content, rng = exported[0].read_bytes(), np.random.default_rng(0)
    onnx.checker.check_model(onnx.load(exported[0]))
    for place in (*rng.integers(len(content), size=40), *range(len(content) - 60, len(content))):
        other = bytearray(content)
        other[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "flipped.onnx").write_bytes(other)
        with pytest.raises(ExportError, match="is not what cops-export wrote"):
            open_exported(tmp_path / "flipped.onnx")
    for short in (b"", content[:30], content[-60:]):
        (tmp_path / "short.onnx").write_bytes(short)
        with pytest.raises(ExportError, match="is not what cops-export wrote"):
            open_exported(tmp_path / "short.onnx")


def save(model: onnx.ModelProto, path: Path, **options: Any) -> None:
    """Write a model that was changed, as if it had been exported so."""
    seals = [entry for entry in model.metadata_props if entry.key == formats.SEAL]
    for entry in seals:
        model.metadata_props.remove(entry)
    onnx.save(model, path, **options)
    formats.seal(path)


def _copy(model: onnx.ModelProto) -> onnx.ModelProto:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


def _another(calibration: Calibration) -> Identity:
    return replace(calibration.identity, image_size=56)


def _describe(model: onnx.ModelProto, **changed: object) -> None:
    (entry,) = (one for one in model.metadata_props if one.key == KEY)
    entry.value = json.dumps({**json.loads(entry.value), **changed})


def test_the_example_needs_only_onnxruntime_numpy_and_pillow_and_agrees(
    exported: tuple[Path, Parity], detector: CoPS, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (50, 30, 3)).astype(np.uint8)
    save_image(pixels, tmp_path / "part.png")
    example = Path(__file__).parents[2] / "examples" / "onnx_only.py"
    apart = {"PYTHONPATH": "", "PATH": ""}  # else the tests' path, with all of this library, would be its own
    command = [sys.executable, "-X", "importtime", str(example), str(exported[0]), str(tmp_path / "part.png")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=apart, cwd=tmp_path)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in ran.stderr.splitlines()}
    assert not imported & {"torch", "cops_lightning", "cv2", "scipy"}
    (expected,) = detector.predict(tmp_path / "part.png")
    name, score, verdict = ran.stdout.split()
    assert (name, verdict) == (str(tmp_path / "part.png"), "anomalous" if expected.score > 0.5 else "normal")
    assert float(score) == pytest.approx(expected.score, abs=1e-5)
    written = np.asarray(Image.open(tmp_path / "maps" / "1-part.png"))
    assert written.shape == (50, 30)
    assert np.abs(written / 255 - expected.map).max() < 0.02
    bare = subprocess.run(command[:4], capture_output=True, text=True, check=False, env=apart)
    assert bare.returncode == 1
    assert bare.stderr.splitlines()[-1].startswith("usage: onnx_only.py FILE IMAGE ...")


def test_the_python_of_the_page_on_export_runs_as_written(
    exported: tuple[Path, Parity], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "photos").mkdir()
    save_image(np.full((50, 30, 3), 90, np.uint8), tmp_path / "photos" / "part.png")
    shutil.copyfile(exported[0], tmp_path / "parts.onnx")
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    (lines,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(lines, {})
    assert capsys.readouterr().out.startswith("photos/part.png 0.")


def test_the_command_writes_a_file_and_says_how_well_it_agrees(
    detector: CoPS, traced_once: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(cli, "detector_of", lambda *_settings, **_options: detector)
    out = tmp_path / "parts.onnx"
    given = [f"checkpoint={tmp_path}/last.ckpt", f"out={out}", "count=3", "threshold=0.4"]
    assert cli.main(given) == 0
    said = capsys.readouterr().out
    assert str(out) in said.replace("\n", "")
    assert "image AUROC" in said
    assert json.loads(report_of(out).read_text())["threshold"] == 0.4
    assert cli.main(given) == 0, "its own files are replaced"
    capsys.readouterr()
    assert cli.main([*given, "number=int8", "format=openvino"]) == 1
    assert "files end in .xml" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("there", "given", "said"),
    [
        ("run/run.json", ["out=run/a.onnx"], "the folder of a run"),
        ("mine.onnx", ["out=mine.onnx"], "mine.onnx is there and is not of cops-export"),
        ("m.bin", ["out=m.xml", "format=openvino"], "m.bin is there and is not of cops-export"),
        ("m.onnx.parity.json", ["out=m.onnx"], "m.onnx.parity.json is there"),
        ("m.pt2", ["out=m.pt2", "format=torch_export"], "m.pt2 is there"),
        ("folder.onnx/x", ["out=folder.onnx"], "folder.onnx is there"),
        ("photos/0.png", ["out=photos/x.onnx", "images=photos"], "lies in photos, whose images are read"),
    ],
)
def test_nothing_else_is_replaced_and_nothing_is_written_among_what_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, there: str, given: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(there).parent.mkdir(exist_ok=True)
    Path(there).write_text("mine")
    assert cli.main(["checkpoint=last.ckpt", *given]) == 1
    assert said in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["mine"]


def test_cops_predict_takes_an_exported_file_with_the_rule_that_is_in_it(
    exported: tuple[Path, Parity], detector: CoPS, tmp_path: Path, capsys: Any
) -> None:
    for number, pixels in enumerate(rendered(SIDE, 2).pixels):
        save_image(pixels, tmp_path / "photos" / f"{number}.png")
    given = [str(tmp_path / "photos"), f"checkpoint={exported[0]}", f"out={tmp_path / 'found'}"]
    assert predicting.main(given) == 0
    with (tmp_path / "found" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row, expected in zip(rows, detector.predict(tmp_path / "photos"), strict=True):
        assert float(row["score"]) == pytest.approx(expected.score, abs=5e-5)
        assert float(row["threshold"]) == 0.5
    for given_too, threshold in (("map_threshold=0.3", 0.5), ("threshold=0.4", 0.4)):
        assert predicting.main([*given[:2], f"out={tmp_path / given_too}", given_too]) == 0
        with (tmp_path / given_too / "predictions.csv").open() as file:
            assert {float(row["threshold"]) for row in csv.DictReader(file)} == {threshold}
    assert predicting.main([*given, "backbone=mini"]) == 1
    assert "is an exported file, which holds all of it. Leave out backbone=." in capsys.readouterr().err


def test_ways_to_predict_score_the_same_images_and_agree_as_their_precision_lets_them(
    detector: CoPS, traced_once: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured, "CALIBRATION", 8)
    half = CoPS(detector.backbone, "visa", image_size=SIDE, sizes=detector.sizes)

    def model(backbone: FrozenClip) -> CoPS:
        return detector if backbone is detector.backbone else half

    expected = measured.eager(detector, rendered(SIDE, 2).pixels)()
    ways = measured.exported_ways(model, detector.backbone, 2)
    found = {name.removeprefix("predict-"): largest_difference(way(), expected) for name, way in ways.items()}
    assert {"eager-bf16", "onnxruntime-fp32", "openvino-fp32", "onnxruntime-int8"} <= set(found)
    for name, difference in found.items():
        assert difference < (1e-4 if name.endswith("fp32") else 0.2), name
