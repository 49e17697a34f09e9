"""What a store gives back is what was written, or an error; never anything else."""

import errno
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commands import FORKS
from cops_lightning.core.errors import CacheError
from cops_lightning.core.types import DTYPES
from cops_lightning.features import Entry, FeatureStore
from cops_lightning.features.store import LAYOUT

from .conftest import KEY, NAMES

CHANGES = {
    "backbone": "1" * 64,
    "encoder": "version 2, QuickGELU",
    "image_size": 56,
    "preprocessing": 2,
    "precision": "bf16",
    "dtype": "bf16",
    "patch_shape": (2, 3, 4),
}


def test_features_come_back_bit_by_bit(make_store):
    store = make_store()
    image, patches = torch.randn(4), torch.randn(6, 4)
    store.write(NAMES[0], Entry(image, patches, NAMES[1]))
    entry = store.read(NAMES[0])
    assert torch.equal(entry.image, image)
    assert torch.equal(entry.patches, patches)
    assert entry.name == NAMES[1], "that of the pixels, not of the file"


@pytest.mark.parametrize("dtype", DTYPES)
def test_features_are_kept_in_the_type_asked_for(dtype, make_store):
    store, exact = make_store(dtype=dtype), torch.randn(6, 4)
    store.write(NAMES[0], Entry(torch.zeros(4), exact, NAMES[0]))
    assert torch.equal(store.read(NAMES[0]).patches, exact.to(DTYPES[dtype]))
    assert store.path(NAMES[0]).stat().st_size - store.key.entry_bytes < 512


@pytest.mark.parametrize("part", CHANGES)
def test_whatever_changes_features_leads_to_another_store(part, make_store):
    make_store(NAMES)
    assert not make_store(**{part: CHANGES[part]}).holds(NAMES[0])
    assert make_store().holds(NAMES[0])


def test_the_store_of_one_layer_in_the_joint_space_is_named_by_that_alone(make_store):
    fields = ("backbone", "encoder", "image_size", "preprocessing", "precision", "dtype", "patches", "width")
    described = [LAYOUT, {name: getattr(KEY, name) for name in fields}]
    digest = xxhash.xxh3_64_hexdigest(json.dumps(described, sort_keys=True).encode())
    assert make_store().folder.name == f"{'0' * 8}-48px-fp32-{digest}"


def test_features_of_several_layers_come_back_in_their_shape(make_store):
    store, patches = make_store(patch_shape=(2, 6, 3)), torch.randn(2, 6, 3)
    store.write(NAMES[0], Entry(torch.randn(4), patches, NAMES[0]))
    assert torch.equal(store.read(NAMES[0]).patches, patches)


def test_masks_come_back_bit_by_bit(make_store):
    store, mask = make_store(), torch.arange(18, dtype=torch.uint8)
    assert not store.holds_mask(NAMES[0])
    store.write_mask(NAMES[0], mask)
    assert store.holds_mask(NAMES[0])
    assert torch.equal(store.read_mask(NAMES[0]), mask)
    assert not store.holds(NAMES[0])


def test_what_a_killed_job_left_is_not_believed_and_is_cleared_away(make_store):
    store = make_store(NAMES[:1])
    whole = store.path(NAMES[0])
    half = whole.with_name(f".{whole.name}.1.partial")
    whole.rename(half)
    assert not store.holds(NAMES[0])
    with store.building():
        assert not half.exists()


def test_a_shortened_file_is_not_believed(make_store):
    store = make_store(NAMES[:1])
    os.truncate(store.path(NAMES[0]), store.path(NAMES[0]).stat().st_size - 1)
    assert not store.holds(NAMES[0])


@pytest.mark.slow
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_flipped_bit_goes_unnoticed(place, bit, make_store):
    store = make_store(NAMES[:1])
    path = store.path(NAMES[0])
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(CacheError, match=f"{NAMES[0]}.safetensors is damaged.*start the run again"):
        store.read(NAMES[0])
    assert not store.holds(NAMES[0]), "it is computed anew"


def test_an_entry_in_anothers_place_is_noticed(make_store):
    store, other = make_store(NAMES[:2]), make_store(NAMES[:1], preprocessing=2)
    shutil.copyfile(store.path(NAMES[1]), store.path(NAMES[0]))
    shutil.copyfile(store.path(NAMES[1]), other.path(NAMES[0]))
    for place in (store, other):
        with pytest.raises(CacheError, match=f"{NAMES[0]}.safetensors is damaged.*start the run again"):
            place.read(NAMES[0])
    for name, bit in zip(NAMES, (0, 1), strict=False):
        store.write_mask(name, torch.tensor([bit], dtype=torch.uint8))
    shutil.copyfile(store.mask_path(NAMES[1]), store.mask_path(NAMES[0]))
    with pytest.raises(CacheError, match="is damaged"):
        store.read_mask(NAMES[0])


def test_a_cache_may_be_moved_as_a_whole(make_store, tmp_path):
    store = make_store(NAMES[:1])
    shutil.move(store.root, tmp_path / "elsewhere")
    FeatureStore(tmp_path / "elsewhere", KEY).read(NAMES[0])


def test_an_entry_that_cannot_be_read_now_is_not_taken_for_a_damaged_one(make_store, monkeypatch):
    store = make_store(NAMES[:1])

    def refuse(*_args, **_kwargs):  # permissions would not stop a test that runs as root
        raise PermissionError(errno.EACCES, "Permission denied", str(store.path(NAMES[0])))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(CacheError, match="Permission denied. Change its permissions"):
            store.read(NAMES[0])
    store.read(NAMES[0])


def test_an_entry_that_was_removed_meanwhile_is_named(make_store):
    with pytest.raises(CacheError, match=r"is gone.*Start the run again"):
        make_store().read(NAMES[0])


def test_a_folder_that_cannot_be_written_names_the_ways_out(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"cannot be written.*COPS_CACHE.*callbacks.feature_cache=null"):
        FeatureStore(tmp_path / "file", KEY).create()


def test_one_builds_at_a_time_and_the_next_is_told_that_it_waits(make_store):
    store, log = make_store(), []

    def build(_) -> None:
        with FeatureStore(store.root, KEY).building(lambda: log.append("waits")):
            log.append("in")
            time.sleep(0.05)
            log.append("out")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(build, range(3)))
    turns = [word for word in log if word != "waits"]
    assert turns == ["in", "out"] * 3
    assert log.count("waits") == 2


def hold(root, began) -> None:
    with FeatureStore(root, KEY).building(), FeatureStore(root, KEY).in_use():
        began.set()
        time.sleep(60)


@pytest.mark.slow
def test_a_killed_job_holds_nothing_any_more(make_store):
    store, began = make_store(), FORKS.Event()
    process = FORKS.Process(target=hold, args=(store.root, began))
    process.start()
    try:
        assert began.wait(60)
        assert store.used_by_others()
    finally:
        process.kill()
        process.join()
    assert not store.used_by_others()
    with store.building(lambda: pytest.fail("nobody builds")):
        pass


def test_a_process_does_not_count_itself_among_the_others(make_store):
    store = make_store()
    with store.in_use():
        assert not store.used_by_others()
        assert FeatureStore(store.root, KEY).used_by_others()
    assert not list((store.folder / "users").iterdir())
