"""Score images with a file of cops-export, by onnxruntime, numpy and Pillow alone: onnx_only.py FILE IMAGE ..."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def main(model: str, *images: str) -> None:
    """Print each image's score and verdict, and write its map, at the size of the image, beside it as IMAGE.map.png."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    said = json.loads(session.get_modelmeta().custom_metadata_map["cops_lightning"])
    size, threshold = said["image_size"], said["threshold"]
    for name in images:
        image = ImageOps.exif_transpose(Image.open(name)).convert("RGB")
        pixels = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC))  # uint8, (size, size, 3)
        score, anomaly = session.run(["score", "map"], {"pixels": pixels[None]})  # in [0, 1]; any number of images
        verdict = "" if threshold is None else "  anomalous" if score[0] > threshold else "  normal"
        print(f"{name}  {score[0]:.6f}{verdict}")
        grey = Image.fromarray((255 * anomaly[0]).astype(np.uint8))
        grey.resize(image.size, Image.Resampling.BILINEAR).save(Path(name).with_suffix(".map.png"))


if __name__ == "__main__":
    main(*sys.argv[1:])
