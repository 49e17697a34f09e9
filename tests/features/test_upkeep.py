"""Space is counted, checked and given back, least recently used first, never under a living process."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cops_lightning.core.errors import CacheError
from cops_lightning.core.files import _clear, replacing
from cops_lightning.features import entries, make_room, prune, survey, verify

from .conftest import NAMES

DAY = 86400


@pytest.fixture
def store(make_store):
    """Four images, last used 0, 1, 2 and 3 days ago."""
    store = make_store(NAMES)
    for days, name in enumerate(NAMES):
        os.utime(store.path(name), (0, time.time() - days * DAY))
    return store


@pytest.fixture
def size(store):
    """Bytes of one entry."""
    return store.path(NAMES[0]).stat().st_size


@pytest.mark.parametrize("way", ["opened", "pruned", "dry"])
def test_what_killed_writers_left_in_the_cache_goes_and_what_is_being_written_stays(way, store, monkeypatch):
    monkeypatch.setattr("cops_lightning.core.files._clear", _clear.__wrapped__)  # as in another process
    cache = store.root.parent
    files = [folder / f".hashes.{32 * '0'}.partial" for folder in (cache, store.root, store.folder)]
    rendered = cache / "procedural-1" / f".easy.{32 * '0'}.partial"
    with replacing(cache / "other") as partial:
        for file in files:
            file.write_text("half")
        (rendered / "test").mkdir(parents=True)
        if way == "opened":
            store.create()
        else:
            prune(store.root, to_bytes=10**9, dry_run=way == "dry")
        assert partial.exists()
    assert [file.exists() for file in (*files, rendered)] == [way == "dry"] * 4
    assert held(store) == [0, 1, 2, 3]


def held(store) -> list[int]:
    return [number for number, name in enumerate(NAMES) if store.holds(name)]


def test_a_survey_counts_images_and_bytes_of_every_store(store, make_store, size):
    make_store(NAMES[:1], dtype="bf16")
    found = {summary.description["dtype"]: summary for summary in survey(store.root)}
    assert (found["fp32"].images, found["fp32"].size) == (4, 4 * size)
    assert found["bf16"].images == 1
    assert found["fp32"].used == pytest.approx(time.time(), abs=60)


def test_verifying_names_the_damaged_file_and_no_other(store):
    broken = store.path(NAMES[2])
    content = bytearray(broken.read_bytes())
    content[-1] ^= 1
    broken.write_bytes(content)
    (damage,) = verify([entry.path for entry in entries(store.folder)])
    assert damage.path == broken
    assert "checksum" in damage.reason


def test_pruning_by_age_keeps_what_was_used_since(store):
    assert prune(store.root, older_than_days=1.5).files == 2
    assert held(store) == [0, 1]


def test_pruning_to_a_size_gives_back_what_was_not_used_for_longest(store, size):
    assert prune(store.root, to_bytes=3 * size).files == 1
    assert held(store) == [0, 1, 2]


def test_a_dry_run_counts_and_keeps(store, size):
    pruned = prune(store.root, everything=True, dry_run=True)
    assert (pruned.files, pruned.size) == (4, 4 * size)
    assert held(store) == [0, 1, 2, 3]


def test_pruning_all_removes_the_folders_too(store):
    prune(store.root, everything=True)
    assert not store.folder.exists()


def test_pruning_spares_a_store_that_a_living_process_reads(store):
    with store.in_use():
        assert prune(store.root, everything=True).spared == (store.folder,)
    assert held(store) == [0, 1, 2, 3]


def test_pruning_spares_a_store_that_is_added_to_although_nothing_reads_it_yet(store):
    with store.building():
        assert prune(store.root, everything=True).spared == (store.folder,)
    assert held(store) == [0, 1, 2, 3]
    assert prune(store.root, everything=True).files == 4


def test_nobody_adds_to_a_store_while_it_is_pruned(store, make_store, monkeypatch):
    removing, order = threading.Event(), []

    def slowly(chosen):
        removing.set()
        time.sleep(0.2)
        order.append("removed")

    monkeypatch.setattr("cops_lightning.features.upkeep._remove", slowly)
    with ThreadPoolExecutor(1) as pool:
        pruning = pool.submit(prune, store.root, to_bytes=0)
        assert removing.wait(60)
        with make_store().building():
            order.append("added")
        pruning.result()
    assert order == ["removed", "added"]


def test_room_is_made_by_giving_back_the_least_recently_used(store, size):
    assert make_room(store, needed=2 * size, keep=set(), budget=4 * size) == 2 * size
    assert held(store) == [0, 1]


def test_nothing_is_given_back_where_there_is_room(store, size):
    assert make_room(store, needed=size, keep=set(), budget=5 * size) == 0
    assert held(store) == [0, 1, 2, 3]


def test_what_the_run_needs_itself_is_not_given_back(store, size):
    make_room(store, needed=size, keep={NAMES[3]}, budget=4 * size)
    assert held(store) == [0, 1, 3]


def test_room_is_made_in_other_stores_too_unless_they_are_in_use(store, make_store, size):
    other = make_store(image_size=56)
    with store.in_use(), pytest.raises(CacheError):
        make_room(other, needed=size, keep=set(), budget=4 * size)
    make_room(other, needed=size, keep=set(), budget=4 * size)
    assert held(store) == [0, 1, 2]


def test_a_refusal_says_what_is_needed_and_allowed_and_gives_back_nothing(store, size):
    message = r"needs 5\.00 GB more.*budget is 2 GB.*GB are in use.*Raise callbacks.feature_cache.budget_gb.*dtype=bf16"
    with pytest.raises(CacheError, match=message):
        make_room(store, needed=5 * 10**9, keep=set(), budget=2 * 10**9)
    assert held(store) == [0, 1, 2, 3]


def test_a_disk_that_is_full_refuses_within_the_budget(store):
    with pytest.raises(CacheError, match="of the disk are free"):
        make_room(store, needed=10**18, keep=set(), budget=10**19)
