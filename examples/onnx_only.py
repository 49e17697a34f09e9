"""Score images with a file of cops-export, by onnxruntime, numpy and Pillow alone: onnx_only.py FILE IMAGE ...

Maps go into the folder `maps` of the current one: beside the photographs the next run would score them too.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(model: str, *images: str) -> None:
    """Print each image's score and verdict, and write its map, at the size of the image, as maps/NUMBER-IMAGE.png."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    said = json.loads(session.get_modelmeta().custom_metadata_map["cops_lightning"])
    size, threshold = said["image_size"], said["threshold"]
    maps = Path("maps")
    maps.mkdir(exist_ok=True)
    for number, name in enumerate(images, 1):
        image = ImageOps.exif_transpose(Image.open(name)).convert("RGB")
        pixels = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))  # uint8, (size, size, 3)
        score, anomaly = session.run(["score", "map"], {"pixels": pixels[None]})  # in [0, 1]; any number of images
        verdict = "" if threshold is None else "  anomalous" if score[0] > threshold else "  normal"
        print(f"{name}  {score[0]:.6f}{verdict}")
        grey = Image.fromarray((255 * anomaly[0]).astype(np.uint8))
        grey.resize(image.size, Image.Resampling.BILINEAR).save(maps / f"{number}-{Path(name).stem}.png")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: onnx_only.py FILE IMAGE ...   (FILE is what cops-export wrote)")
    main(*sys.argv[1:])
