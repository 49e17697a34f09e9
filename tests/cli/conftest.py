"""Console commands as a user runs them, over datasets that the tests make."""

import contextlib
import io
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image

COMMANDS = Path(sys.executable).parent
HYDRA = {"cops-train": "train", "cops-eval": "evaluate"}
HIDDEN = ("COPS_CACHE", "COPS_DATA_ROOT", "COPS_CLIP_WEIGHTS", "WANDB_API_KEY")
Result = subprocess.CompletedProcess

SMALL = (
    "backbone=tiny_random",
    "backbone.image_size=64",
    "data.num_workers=0",
    "trainer.accelerator=cpu",
    "callbacks.progress=null",
)


def make_dataset(root: Path, normal: int = 3, anomalous: int = 3, seed: int = 0, category: str = "part") -> Path:
    """MVTec-style folders of one category: grey noise, and a bright square with its mask where anomalous."""
    rng = np.random.default_rng(seed)
    for defect, count in (("good", normal), ("square", anomalous)):
        for number in range(count):
            pixels = rng.integers(90, 110, (40, 40, 3), dtype=np.uint8)
            mask = np.zeros((40, 40), dtype=np.uint8)
            if defect == "square":
                mask[5:20, 10:25] = 255
                pixels[mask > 0] = 250
                save(mask, root / category / "ground_truth" / defect / f"{number:03}_mask.png")
            save(pixels, root / category / "test" / defect / f"{number:03}.png")
    return root


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def only_error(result: Result) -> str:
    """The one sentence that a failed command leaves on stderr."""
    assert result.returncode == 1, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: "), line
    return line


@contextlib.contextmanager
def as_a_program(cwd: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """A working folder and an environment for a block, after which this process is as it was before."""
    root = logging.getLogger()
    before, level, path, here = list(root.handlers), root.level, list(sys.path), Path.cwd()
    os.chdir(cwd)
    try:
        with patch.dict(os.environ, environment, clear=True), warnings.catch_warnings():
            yield
    finally:
        os.chdir(here)
        logging.captureWarnings(False)
        for handler in set(root.handlers) - set(before):
            handler.close()
        root.handlers[:], sys.path[:] = before, path
        root.setLevel(level)


def call(command: str, arguments: tuple[str, ...]) -> int:
    """The exit code of a command's function."""
    name = command.removeprefix("cops-")
    main = import_module(f"cops_lightning.cli.{HYDRA.get(command, name)}").main
    try:
        if command not in HYDRA:
            return main(arguments)
        with patch.object(sys, "argv", [str(COMMANDS / command), *arguments]):
            main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, str]]:
    """The variables that a command sees: none of the developer's own, and a cache for the tests."""
    cache = str(tmp_path_factory.mktemp("cache"))

    def variables(**more: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key not in HIDDEN}
        return {"COLUMNS": "120", "COPS_CACHE": cache, **kept, **more}

    return variables


@pytest.fixture(scope="session")
def run_command(tmp_path_factory: pytest.TempPathFactory, environment) -> Callable[..., Result]:
    """Call a command outside the checkout, in this process, which has imported what takes seconds."""

    def run(command: str, *arguments: str, cwd: Path | None = None, **variables: str) -> Result:
        out, err = io.StringIO(), io.StringIO()
        with (
            as_a_program(cwd or tmp_path_factory.mktemp("elsewhere"), environment(**variables)),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = call(command, arguments)
        return Result((command, *arguments), code, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def call_main(run_command) -> Callable[..., Result]:
    """The same by another name."""
    return run_command


@pytest.fixture(scope="session")
def start_command(environment) -> Callable[..., subprocess.Popen]:
    """Start a command as a process of its own."""

    def start(command: str, *arguments: str, cwd: Path, **variables: str) -> subprocess.Popen:
        return subprocess.Popen(
            [str(COMMANDS / command), *arguments],
            cwd=cwd,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def run_process(start_command) -> Callable[..., Result]:
    """`run_command` as a process of its own, for what ends processes or starts some."""

    def run(command: str, *arguments: str, cwd: Path, **variables: str) -> Result:
        process = start_command(command, *arguments, cwd=cwd, **variables)
        out, err = process.communicate(timeout=300)
        return Result(process.args, process.returncode, out, err)

    return run


def training(here: Path, *more: str) -> tuple[str, ...]:
    """Arguments of a small training on `here`/parts."""
    return ("auxiliary=own", f"auxiliary.source={here / 'parts'}", "preset.epochs=1", *SMALL, *more)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, run_command) -> dict[str, Path | str]:
    """One finished `cops-train`: its folder, what it printed, the two datasets and the arguments."""
    here = tmp_path_factory.mktemp("trained")
    auxiliary, target = make_dataset(here / "parts"), make_dataset(here / "tiles", seed=1)
    arguments = training(here, f"targets=[{target}]")
    result = run_command("cops-train", *arguments, "hydra.run.dir=run", cwd=here)
    assert result.returncode == 0, result.stderr
    return {
        "here": here,
        "run": here / "run",
        "target": target,
        "auxiliary": auxiliary,
        "arguments": arguments,
        "printed": result.stdout,
    }
