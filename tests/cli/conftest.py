"""Console commands as a user runs them, over datasets that the tests make."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COMMANDS = Path(sys.executable).parent
Result = subprocess.CompletedProcess


def make_dataset(root: Path, normal: int = 3, anomalous: int = 3, seed: int = 0) -> Path:
    """MVTec-style folders of one category: grey noise, and a bright square with its mask where anomalous."""
    rng = np.random.default_rng(seed)
    for defect, count in (("good", normal), ("square", anomalous)):
        for number in range(count):
            pixels = rng.integers(90, 110, (40, 40, 3), dtype=np.uint8)
            mask = np.zeros((40, 40), dtype=np.uint8)
            if defect == "square":
                mask[5:20, 10:25] = 255
                pixels[mask > 0] = 250
                save(mask, root / "part" / "ground_truth" / defect / f"{number:03}_mask.png")
            save(pixels, root / "part" / "test" / defect / f"{number:03}.png")
    return root


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def run_command(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Result]:
    """Run a console command outside the checkout, with the small random backbone and no bars unless told otherwise."""

    cache = str(tmp_path_factory.mktemp("cache"))

    def run(command: str, *arguments: str, cwd: Path | None = None, **variables: str) -> Result:
        hidden = ("COPS_CACHE", "COPS_DATA_ROOT", "COPS_CLIP_WEIGHTS", "WANDB_API_KEY")
        environment = {key: value for key, value in os.environ.items() if key not in hidden} | variables
        return subprocess.run(
            [str(COMMANDS / command), *arguments],
            cwd=cwd or tmp_path_factory.mktemp("elsewhere"),
            env={"COLUMNS": "120", "COPS_CACHE": cache, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture
def call_main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """`run_command` without a new interpreter, for the commands that are plain functions of their arguments."""

    def call(command: str, *arguments: str, cwd: Path | None = None, **variables: str) -> Result:
        for name, value in {"COLUMNS": "120", **variables}.items():
            monkeypatch.setenv(name, value)
        if cwd is not None:
            monkeypatch.chdir(cwd)
        main = import_module(f"cops_lightning.cli.{command.removeprefix('cops-')}").main
        capsys.readouterr()
        code = main(arguments)
        return Result((command, *arguments), code, *capsys.readouterr())

    return call


SMALL = ("backbone=tiny_random", "backbone.image_size=64", "data.workers=0", "trainer.accelerator=cpu")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, run_command) -> dict[str, Path | str]:
    """One finished `cops-train`: its folder, what it printed, and the two datasets."""
    here = tmp_path_factory.mktemp("trained")
    auxiliary, target = make_dataset(here / "parts"), make_dataset(here / "tiles", seed=1)
    arguments = (
        "auxiliary=own",
        f"auxiliary.source={auxiliary}",
        "auxiliary.epochs=1",
        f"targets=[{target}]",
        "hydra.run.dir=run",
        "logger=csv",
        *SMALL,
    )
    result = run_command("cops-train", *arguments, cwd=here)
    assert result.returncode == 0, result.stderr
    return {"here": here, "run": here / "run", "target": target, "auxiliary": auxiliary, "printed": result.stdout}
