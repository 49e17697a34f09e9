"""A dataset in a layout that no reader knows by itself: a spec of a few lines, checked before anything is trained.

    python examples/custom_dataset.py

The images are drawn here, so that it runs as it is; put the spec beside your own.
"""

from pathlib import Path

import numpy as np
from PIL import Image

import cops_lightning as cl

# Boards of two kinds: boards/KIND/run-ok/*.jpg, boards/KIND/run-SOMETHING/*.jpg, and masks in a tree of their own.
SPEC = """\
name: boards
root: boards
images: "{category}/run-{defect}/{stem}.jpg"
masks: "truth/{category}/{defect}/{stem}.png"
normal: ok
"""


def draw(root: Path, images: int = 3) -> None:
    """Grey boards; those with a scratch have a mask of it."""
    rng = np.random.default_rng(0)
    for kind in ("small", "large"):
        for defect in ("ok", "scratch"):
            for number in range(images):
                pixels = rng.normal(120, 10, (64, 64, 3)).clip(0, 255).astype(np.uint8)
                image = root / kind / f"run-{defect}" / f"{number}.jpg"
                image.parent.mkdir(parents=True, exist_ok=True)
                if defect != "ok":
                    mask = np.zeros((64, 64), np.uint8)
                    mask[30:34, 8 : 40 + number] = 255
                    pixels[mask > 0] = 250
                    truth = root / "truth" / kind / defect / f"{number}.png"
                    truth.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(mask).save(truth)
                Image.fromarray(pixels).save(image, quality=95)


def main(folder: Path = Path("runs/custom_dataset")) -> cl.Folder:
    """The dataset as a data module, to train on or to test: trainer.test(module, datamodule=...)."""
    draw(folder / "boards")
    spec = folder / "boards.yaml"
    spec.write_text(SPEC, encoding="utf-8")
    data = cl.Folder(spec)
    data.setup("test")
    (target,) = data.targets
    for category in sorted({sample.category for sample in target.test}):
        of = [sample for sample in target.test if sample.category == category]
        anomalous = sum(sample.label for sample in of)
        print(f"{category}: {len(of) - anomalous} normal, {anomalous} anomalous, each with a mask")
    print(f"the same on the command line: cops-data check {spec}; cops-eval ... targets=[{spec}]")
    return data


if __name__ == "__main__":
    main()
