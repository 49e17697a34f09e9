"""The frozen encoder sees each image once, and what is read back gives the numbers that it would have given."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image

from cops_lightning.callbacks.feature_cache import CacheOptions, Encoding, FeatureCache, FeatureCaching
from cops_lightning.clip.request import DEFAULT, FeatureRequest
from cops_lightning.clip.weights import clip_from_state
from cops_lightning.core.errors import CacheError, DatasetError
from cops_lightning.core.seeding import content_names
from cops_lightning.core.types import Sample
from cops_lightning.data.datamodules import CopsDataModule, Folder
from cops_lightning.data.readers.index import DatasetIndex
from cops_lightning.features import FOLDER, GB, FeatureStore, prune
from cops_lightning.models.baselines.winclip import WinClip
from cops_lightning.models.cops import CoPS
from cops_lightning.models.module import CopsModule, EncoderCount
from released import released_cops
from tiny import quiet_trainer

# What Lightning itself says about: worker processes, torch's own deprecations, and that the frozen CLIP stays frozen.
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.*LeafSpec:FutureWarning", "ignore:Found .* in eval mode"
)

CPU = Encoding(torch.device("cpu"), batch_size=2)


def make_index(root: Path, name: str = "parts", count: int = 6, seed: int = 0) -> DatasetIndex:
    """Noise of 40 x 40 pixels; every second image has a bright square, and a mask of it."""
    rng = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        pixels, mask = rng.integers(0, 255, (40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
        anomalous = number % 2 == 1
        image, truth = root / name / f"{number}.png", root / name / f"{number}_mask.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        if anomalous:
            mask[5:20, 10 : 15 + number] = 200
            pixels[mask > 0] = 255
            Image.fromarray(mask).save(truth)
        Image.fromarray(pixels).save(image)
        key = f"{name}/x/{number}.png"
        samples.append(Sample(name, "x", "test", "d", image, truth if anomalous else None, anomalous, key))
    return DatasetIndex(name, root / name, "made by the test", (), tuple(samples), has_masks=True)


@pytest.fixture
def index(tmp_path):
    return make_index(tmp_path)


@pytest.fixture
def options(tmp_path):
    return CacheOptions(tmp_path / "cache")


def cached(model: CoPS, index: DatasetIndex, options: CacheOptions, **changes):
    """The dataset from the cache, and how many images were encoded for it."""
    count = EncoderCount()
    dataset = FeatureCache(options, model.backbone, 48, replace(CPU, **changes)).dataset(index, "dataset", count)
    return dataset, count


def run(model: CoPS, auxiliary: DatasetIndex, target: DatasetIndex, options: CacheOptions | None, tmp_path, **data):
    """Two epochs of training, then testing: the module, and the losses of every step."""
    module = CopsModule(model)
    steps: list[torch.Tensor] = []
    inner = module.training_step
    module.training_step = lambda *a: steps.append(inner(*a)) or steps[-1]
    seen = {"evaluate_seen": ["parts"]} if target.name == auxiliary.name else {}
    images = CopsDataModule(Folder(auxiliary), [Folder(target)], batch_size=4, eval_batch_size=2, **data, **seen)
    trainer = quiet_trainer(tmp_path, max_epochs=2, callbacks=[] if options is None else [caching(options)])
    trainer.fit(module, images)
    trainer.test(module, images, verbose=False)
    assert not images.cached, "another model may be next"
    return module, torch.stack(steps).detach()


def caching(options: CacheOptions) -> FeatureCaching:
    return FeatureCaching(options.folder, options.dtype, options.budget / GB)


@pytest.fixture
def model_of(tiny_clip_state):
    """A fresh model over the tiny CLIP."""

    def make(seed: int = 0, auxiliary: str = "mvtec") -> CoPS:
        return released_cops(tiny_clip_state, None, auxiliary, 48, seed=seed)

    return make


def test_what_is_read_is_what_the_encoder_says(tiny_model, index, options):
    dataset, _ = cached(tiny_model, index, options)
    module = Folder(index, image_size=48)
    for item, plain in zip(dataset, module.dataset(index), strict=True):
        expected = tiny_model.backbone.encode_image(plain.image[None])
        torch.testing.assert_close(item.features[0], expected.image[0], atol=1e-6, rtol=0)
        torch.testing.assert_close(item.features[1], expected.patches[0], atol=1e-6, rtol=0)
        assert torch.equal(item.mask, plain.mask)
        assert item.sample == plain.sample
        assert item.name == plain.name == content_names(plain.image[None])[0]


def test_training_and_testing_from_the_cache_give_the_numbers_of_a_run_without_it(model_of, tmp_path, options):
    auxiliary, target = make_index(tmp_path), make_index(tmp_path, "tiles", seed=1)
    plain, plain_losses = run(model_of(), auxiliary, target, None, tmp_path)
    module, losses = run(model_of(), auxiliary, target, options, tmp_path)
    torch.testing.assert_close(losses, plain_losses, atol=1e-6, rtol=1e-6)
    for image, other in zip(module.scored[0], plain.scored[0], strict=True):
        assert image.sample == other.sample
        # Training amplifies the rounding of features that were encoded in other batches.
        assert image.score == pytest.approx(other.score, abs=2e-5)
        torch.testing.assert_close(image.patches, other.patches, atol=2e-5, rtol=0)
    for row, other in zip(module.suites[0].rows(), plain.suites[0].rows(), strict=True):
        assert row.value == pytest.approx(other.value, abs=2e-5)
    assert (module.count.encoded, plain.count.encoded) == (12, 2 * 6 + 6)


def test_a_sweep_over_seeds_and_presets_encodes_each_image_once(model_of, tmp_path, options):
    auxiliary, target = make_index(tmp_path), make_index(tmp_path, "tiles", seed=1)
    counts = [
        run(model_of(seed, preset), auxiliary, target, options, tmp_path)[0].count
        for seed in range(2)
        for preset in ("visa", "mvtec")
    ]
    assert counts == [EncoderCount(12, 0)] + 3 * [EncoderCount(0, 12)]


def test_windows_are_encoded_once_for_all_seeds_and_score_as_those_of_the_images(
    wordy_clip_state, index, options, tmp_path
):
    def tested(*callbacks: Callback) -> CopsModule:
        module = CopsModule(WinClip(clip_from_state(wordy_clip_state), 48))
        data = CopsDataModule(None, [Folder(index)], eval_batch_size=2)
        quiet_trainer(tmp_path, callbacks=list(callbacks)).test(module, data, verbose=False)
        return module

    plain, first, second = tested(), tested(caching(options)), tested(caching(options))
    assert [one.count for one in (plain, first, second)] == [EncoderCount(6, 0), EncoderCount(6, 0), EncoderCount(0, 6)]
    for of_images, *of_features in zip(plain.scored[0], first.scored[0], second.scored[0], strict=True):
        for one in of_features:
            assert one.score == of_images.score
            assert torch.equal(one.patches, of_images.patches)


def test_a_second_run_opens_no_image(tiny_model, index, options, monkeypatch):
    cached(tiny_model, index, options)
    monkeypatch.setattr("cops_lightning.data.dataset.read_image", lambda path: pytest.fail(f"{path} was opened"))
    monkeypatch.setattr("cops_lightning.data.dataset.read_mask", lambda path: pytest.fail(f"{path} was opened"))
    dataset, count = cached(tiny_model, index, options)
    assert len(list(dataset)) == count.from_cache == 6


def test_equal_files_are_encoded_once(tiny_model, index, options):
    twice = replace(index, test=(*index.test, *(replace(sample, key=f"{sample.key}+") for sample in index.test)))
    dataset, count = cached(tiny_model, twice, options)
    assert (len(dataset), count) == (12, EncoderCount(6, 0))


def test_two_detectors_features_come_of_one_pass_and_each_is_served_its_own(tiny_model, index, options, monkeypatch):
    encode, seen = tiny_model.backbone.encode_images, []
    monkeypatch.setattr(
        tiny_model.backbone, "encode_images", lambda images, asked: seen.append(len(images)) or encode(images, asked)
    )
    peer, count = FeatureRequest((2,), values_from=1), EncoderCount()
    both = FeatureCache(options, tiny_model.backbone, 48, CPU, [DEFAULT, peer])
    both.dataset(index, "dataset", count)
    assert (sum(seen), count) == (6, EncoderCount(6, 0))
    for request in (DEFAULT, peer):
        count = EncoderCount()
        cache = FeatureCache(options, tiny_model.backbone, 48, CPU, [request])
        dataset = cache.dataset(index, "dataset", count)
        assert count == EncoderCount(0, 6)
        images = torch.stack([item.image for item in Folder(index, image_size=48).dataset(index)])
        expected = encode(images, [request])[0]
        for item, patches in zip(dataset, expected.patches, strict=True):
            torch.testing.assert_close(item.features[1], patches, atol=1e-6, rtol=0)
    other = FeatureCache(options, tiny_model.backbone, 48, CPU, [FeatureRequest((1,), values_from=1)])
    other.dataset(index, "dataset", count := EncoderCount())
    assert count == EncoderCount(6, 0), "another layer is another's"


def test_an_interrupted_build_goes_on_with_what_is_missing(tiny_model, index, options, monkeypatch):
    encode, calls = tiny_model.backbone.encode_images, []

    def interrupted(images, requests):
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(images, requests)

    monkeypatch.setattr(tiny_model.backbone, "encode_images", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached(tiny_model, index, options)
    assert cached(tiny_model, index, options)[1] == EncoderCount(2, 4)


def test_a_batch_that_was_cut_off_ends_with_the_bytes_of_one_that_was_not(tiny_model, index, options, monkeypatch):
    whole = [entry.features for entry in cached(tiny_model, index, options)[0]]
    encode, seen = tiny_model.backbone.encode_images, []
    monkeypatch.setattr(tiny_model.backbone, "encode_images", lambda i, requests: seen.append(i) or encode(i, requests))
    dataset, _ = cached(tiny_model, index, options)
    dataset.store.path(dataset.names[3].image).unlink()
    again = [entry.features for entry in cached(tiny_model, index, options)[0]]
    # The images of places 2 and 3 went through the encoder together, as they did at first.
    assert [len(images) for images in seen] == [2]
    for before, after in zip(whole, again, strict=True):
        assert torch.equal(before[0], after[0])
        assert torch.equal(before[1], after[1])


def test_an_image_that_changes_is_encoded_anew_with_its_batch_and_no_other(tiny_model, index, options):
    before = cached(tiny_model, index, options)[0]
    Image.new("RGB", (40, 40), "red").save(index.test[0].image)
    after, count = cached(tiny_model, index, options)
    assert count == EncoderCount(CPU.batch_size, 6 - CPU.batch_size)
    assert not torch.equal(before[0].features[1], after[0].features[1])
    assert torch.equal(before[2].features[1], after[2].features[1])


def test_another_mask_rule_reads_masks_anew_and_encodes_nothing(tiny_model, index, options):
    count = EncoderCount()
    cache = FeatureCache(options, tiny_model.backbone, 48, CPU)
    strict = cache.dataset(replace(index, mask_threshold=250), "dataset", count)
    released = cache.dataset(replace(index, mask_threshold=250), "released", count)
    assert count == EncoderCount(6, 6)
    assert strict[1].mask.sum() == 0 < released[1].mask.sum()


def test_the_two_readings_of_a_turned_photo_are_kept_apart(tiny_model, index, options):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(index.test[0].image).save(index.test[0].image, exif=exif)
    (viewer, _), (released, count) = (
        cached(tiny_model, replace(index, orientation=reading), options) for reading in ("viewer", "released")
    )
    assert count == EncoderCount(6, 0)
    assert not torch.equal(viewer[0].features[1], released[0].features[1])
    again, count = cached(tiny_model, index, options)
    assert count == EncoderCount(0, 6)
    assert torch.equal(again[0].features[1], viewer[0].features[1])


def test_a_mask_in_several_files_is_their_union_and_changes_with_any_of_them(tiny_model, index, options):
    sample = index.test[1]
    folder = sample.image.with_suffix("")
    folder.mkdir()
    sample.mask.rename(folder / "0.png")
    second = np.zeros((40, 40), np.uint8)
    several = replace(index, test=(replace(sample, mask=folder),))
    areas = []
    for rows in (0, 4, 8):
        second[30 : 30 + rows] = 200
        Image.fromarray(second).save(folder / "1.png")
        areas.append(cached(tiny_model, several, options)[0][0].mask.sum())
    assert areas[0] < areas[1] < areas[2]


def test_a_dataset_without_masks_has_none_in_the_cache(tiny_model, index, options):
    assert cached(tiny_model, replace(index, has_masks=False), options)[0][1].mask is None


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_named_and_the_rest_is_not_lost(tiny_model, index, options, workers):
    index.test[5].image.write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"5\.png cannot be read"):
        cached(tiny_model, index, options, workers=workers)
    Image.new("RGB", (40, 40)).save(index.test[5].image)
    assert cached(tiny_model, index, options)[1].from_cache >= 2


def test_features_that_do_not_fit_the_type_are_refused(tiny_model, index, options):
    tiny_model.backbone.clip.visual.proj.data *= 1e6
    with pytest.raises(CacheError, match=r"0\.png are not finite in fp16.*cache.dtype=fp32"):
        cached(tiny_model, index, replace(options, dtype="fp16"))


def test_two_jobs_at_once_do_the_work_once(tiny_clip_state, index, options):
    models = [released_cops(tiny_clip_state, None, "visa", 48) for _ in range(2)]
    counts: list[EncoderCount] = []
    jobs = [threading.Thread(target=lambda m=m: counts.append(cached(m, index, options)[1])) for m in models]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert sorted(count.encoded for count in counts) == [0, 6]


def test_without_room_a_run_says_so_and_goes_on_without_the_cache(model_of, index, options, tmp_path, caplog):
    module, _ = run(model_of(), index, index, replace(options, budget=1000), tmp_path)
    assert "The features of parts are not cached: The feature cache in" in caplog.text
    assert module.count == EncoderCount(18, 0)


def test_augmentation_turns_the_cache_off_for_training_and_says_so(model_of, index, options, tmp_path, caplog):
    target = make_index(tmp_path, "tiles", seed=1)
    module, _ = run(model_of(), index, target, options, tmp_path, augment=lambda image, mask: locals())
    assert "Training images are augmented" in caplog.text
    assert module.count == EncoderCount(2 * 6 + 6, 0)


def test_pruning_while_a_run_encodes_gives_back_nothing_that_it_counts_on(
    model_of, index, options, tmp_path, monkeypatch
):
    pruned, write, touch = [], FeatureStore.write, FeatureStore.touch

    def prune_all(*_) -> None:
        pruned.append(prune(options.folder / FOLDER, everything=True))

    monkeypatch.setattr(FeatureStore, "write", lambda *a: prune_all(write(*a)))
    monkeypatch.setattr(FeatureStore, "touch", lambda *a: prune_all(touch(*a)))
    module, _ = run(model_of(), index, make_index(tmp_path, "tiles", seed=1), options, tmp_path)
    assert module.count == EncoderCount(12, 0)
    assert len(pruned) == 12 + 2
    assert {(found.files, len(found.spared)) for found in pruned} == {(0, 1)}
    assert prune(options.folder / FOLDER, everything=True).files > 12, "once it is over, all may go"


def test_damage_is_found_when_read_and_healed_by_the_next_run(tiny_model, index, options):
    dataset, _ = cached(tiny_model, index, options)
    path = dataset.store.path(dataset.names[3].image)
    content = bytearray(path.read_bytes())
    content[-7] ^= 4
    path.write_bytes(content)
    with pytest.raises(CacheError, match="start the run again, and it is computed anew"):
        list(dataset)
    again, count = cached(tiny_model, index, options)
    assert count == EncoderCount(CPU.batch_size, 6 - CPU.batch_size)
    assert len(list(again)) == 6


def test_a_data_module_that_is_used_again_gives_another_encoder_its_own_features(
    tiny_clip_state, tiny_model, index, options, tmp_path
):
    changed = {name: value.clone() for name, value in tiny_clip_state.items()}
    changed["visual.proj"] = -changed["visual.proj"].flip(0)
    other = released_cops(changed, None, auxiliary="visa", image_size=48)
    data = Folder(index)

    def scores(model: CoPS, *callbacks: FeatureCaching) -> list[float]:
        module = CopsModule(model)
        quiet_trainer(tmp_path, callbacks=list(callbacks)).test(module, datamodule=data, verbose=False)
        return [image.score for image in module.scored[0]]

    expected = [scores(tiny_model), scores(other)]
    assert expected[0] != expected[1]
    shared = caching(options)
    for model, plain in ((tiny_model, expected[0]), (other, expected[1]), (tiny_model, expected[0])):
        assert scores(model, shared) == pytest.approx(plain, abs=1e-6)
        assert scores(model) == plain, "without the callback images are encoded"


def test_what_training_encoded_is_kept_for_what_follows_it(tiny_model, index, options, tmp_path, monkeypatch):
    data = CopsDataModule(Folder(index), [Folder(make_index(tmp_path, "tiles", seed=1))])
    seen = []

    class Look(Callback):
        def on_test_end(self, trainer, pl_module):
            seen.append(sorted(data.cached))

    trainer = quiet_trainer(tmp_path, callbacks=[caching(options), Look()])
    module = CopsModule(tiny_model)
    trainer.fit(module, data)
    trainer.test(module, data, verbose=False)
    assert seen == [["parts", "tiles"]]
