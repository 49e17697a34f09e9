"""Console commands over datasets that the tests make."""

from pathlib import Path

import numpy as np
import pytest

from commands import Result
from tiny import save_image

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
                save_image(mask, root / category / "ground_truth" / defect / f"{number:03}_mask.png")
            save_image(pixels, root / category / "test" / defect / f"{number:03}.png")
    return root


def only_error(result: Result) -> str:
    """The one sentence that a failed command leaves on stderr."""
    assert result.returncode == 1, result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: "), line
    return line


def training(here: Path, *more: str) -> tuple[str, ...]:
    """Arguments of a small training on `here`/parts."""
    return ("auxiliary=own", f"auxiliary.source={here / 'parts'}", "preset.epochs=1", *SMALL, *more)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, run_command) -> dict[str, Path | str]:
    """One finished `cops-train`: its folder, what it printed, the two datasets and the arguments."""
    here = tmp_path_factory.mktemp("trained")
    auxiliary, target = make_dataset(here / "parts"), make_dataset(here / "tiles", seed=1)
    arguments = training(here, f"targets=[{target}]", "callbacks.heat_maps.count=2")
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
