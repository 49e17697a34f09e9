"""Files of tensors: what is read is what was written, or a sentence; and nothing in them is run."""

import os
import random
import re
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cops_lightning.core.errors import CheckpointError
from cops_lightning.core.tensor_files import read_tensors, require_tensors, write_tensors

CONTENT = {"epoch": 3, "name": "${oc.env:HOME}", "state_dict": {"a": torch.arange(6.0), "b": torch.ones(2, 3)}}


def saved_by_torch(path: Path) -> None:
    torch.save(CONTENT, path)


def saved_sealed(path: Path) -> None:
    write_tensors(path, CONTENT)


class Net(torch.nn.Module):
    """Weights beside what a traced module holds too: a mask that is no buffer, and values."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
        self.register_buffer("sizes", torch.tensor([32, 7]))
        self.mask, self.scale = torch.ones(4), 2.0

    def forward(self, x):
        return self.layers(x * self.mask) * self.scale


def saved_by_torchscript(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Net().eval(), torch.ones(1, 4)).save(str(path))


WRITERS = [saved_by_torch, saved_sealed, saved_by_torchscript]


def equal(one, other) -> bool:
    """Whether two contents are the same, tensors bit by bit."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    return type(one) is type(other) and one == other


@pytest.mark.slow
@pytest.mark.parametrize("write", WRITERS)
def test_a_damaged_file_gives_one_sentence_or_what_was_written(write, tmp_path):
    path, draw = tmp_path / "file.ckpt", random.Random(0)
    write(path)
    whole, content = path.read_bytes(), read_tensors(path, CheckpointError)
    for _ in range(250):
        damaged = bytearray(whole)
        if draw.random() < 0.1:
            del damaged[draw.randrange(len(whole)) :]
        for _ in range(draw.choice([1, 1, 1, 4]) if damaged else 0):
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            read = read_tensors(path, CheckpointError)
        except CheckpointError as error:
            read = str(error)
        if isinstance(read, str):
            assert read.startswith(f"{path} cannot be read as weights (")
            assert "weights_only" not in read
        else:
            assert equal(read, content)


@pytest.mark.parametrize("name", ["old.pt", "weights.safetensors"])
def test_a_damaged_file_of_a_format_without_checksums_is_read_or_refused_in_a_sentence(name, tmp_path):
    path, draw = tmp_path / name, random.Random(0)
    if name.endswith(".pt"):
        torch.save(CONTENT, path, _use_new_zipfile_serialization=False)
    else:
        save_file(CONTENT["state_dict"], path)
    whole = path.read_bytes()
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged[: draw.choice([len(whole), draw.randrange(len(whole))])])
        with suppress(CheckpointError):  # whose message is a sentence; any other error fails
            read_tensors(path, CheckpointError)


@pytest.mark.parametrize("write", [saved_by_torch, saved_sealed])
def test_no_flipped_bit_of_a_tensor_goes_unnoticed(write, tmp_path):
    path = tmp_path / "file.ckpt"
    write(path)
    whole = path.read_bytes()
    at = whole.index(CONTENT["state_dict"]["a"].numpy().tobytes())
    for place in range(at, at + 24):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x41]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match="checksum that it was written with.*get it anew"):
            read_tensors(path, CheckpointError)


def test_torch_reads_a_sealed_file_as_any_other(tmp_path):
    saved_sealed(tmp_path / "file.ckpt")
    assert equal(torch.load(tmp_path / "file.ckpt", weights_only=True), CONTENT)


def test_the_weights_of_a_torchscript_archive_are_those_that_torch_finds_in_it(tmp_path):
    saved_by_torchscript(tmp_path / "net.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = dict(torch.jit.load(tmp_path / "net.pt").state_dict())
    assert equal(read_tensors(tmp_path / "net.pt", CheckpointError), expected)


class Evil(torch.nn.Module):
    """Its code writes to a file as soon as torch.jit.load reads it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("x", torch.zeros(1))

    def forward(self, a: torch.Tensor):
        return a

    @torch.jit.export
    def __getstate__(self):
        return (self.x, self.training)

    @torch.jit.export
    def __setstate__(self, s: tuple[torch.Tensor, bool]):
        self.training = s[1]
        t = torch.from_file("victim", True, 6, dtype=torch.uint8)
        t.copy_(torch.zeros(6, dtype=torch.uint8))
        self.x = t.sum().reshape(1).float()


@pytest.mark.parametrize("name", ["last.ckpt", "clip.pt"])
def test_no_code_of_a_torchscript_archive_is_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Evil()).save(name)
        with pytest.raises(CheckpointError, match=f"{name} cannot be read as weights"):
            read_tensors(Path(name), CheckpointError)
        assert victim.read_text() == "precious"
        torch.jit.load(name)
    assert victim.read_bytes()[:6] == bytes(6), "torch itself would have run it"


class Pickled:
    """Unpickled, it runs."""

    def __reduce__(self):
        return eval, ("print('ran')",)


def test_a_class_in_a_pickle_is_named_and_the_advice_to_run_it_is_not_passed_on(tmp_path, capsys):
    torch.save({"a": Pickled()}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError) as caught:
        read_tensors(tmp_path / "evil.ckpt", CheckpointError)
    assert re.search(r"\(it names (builtins\.)?eval, and only tensors and plain values are read\)", str(caught.value))
    assert "weights_only" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_a_tensor_that_unfolds_to_more_than_its_file_holds_is_refused(tmp_path):
    write_tensors(tmp_path / "huge.ckpt", {"a": torch.zeros(1).expand(1 << 40)})
    content = read_tensors(tmp_path / "huge.ckpt", CheckpointError)
    with pytest.raises(CheckpointError, match="expected names to plain tensors"):
        require_tensors(content, "huge.ckpt", CheckpointError)


@pytest.mark.parametrize("content", [["a"], "a", {1: torch.ones(1)}])
def test_what_is_no_mapping_of_names_is_said_to_be_none(content, tmp_path):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=re.escape(f"holds a {type(content).__name__}; expected a mapping")):
        read_tensors(tmp_path / "other.ckpt", CheckpointError)


def test_a_folder_and_a_pipe_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(CheckpointError, match="There is no file"):
            read_tensors(path, CheckpointError)
