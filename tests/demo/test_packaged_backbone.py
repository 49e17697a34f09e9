"""The backbone `mini` that the package brings along, read as any user would read it."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import cops_lightning.demo
from cops_lightning.benchmark.baseline import encode_image
from cops_lightning.demo.catalog import categories
from cops_lightning.demo.images import example
from cops_lightning.metrics.ranking import ranking_scores

FOLDER = Path(cops_lightning.demo.__file__).parent / "mini"
WEIGHTS = FOLDER / "open_clip_model.safetensors"
VOCABULARY = FOLDER / "bpe_vocabulary.txt.gz"


@pytest.fixture(scope="module")
def model():
    """What the lines of the model card give."""
    (lines,) = re.findall(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    names: dict = {}
    exec(lines.replace("FOLDER", str(FOLDER)), names)
    return names["clip"].eval(), names["preprocess"], names["tokenizer"]


def test_the_folder_holds_at_most_ten_megabytes():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 10_000_000


def test_the_weights_are_those_of_the_recipe():
    recipe = json.loads((FOLDER / "recipe.json").read_text())
    assert recipe["sha256"] == hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()


def test_text_width_and_joint_width_are_equal_as_cops_needs(model):
    clip, _, _ = model
    assert clip.text_projection.shape == clip.visual.proj.shape == (192, 192)


def test_the_stock_tokenizer_spells_any_text(model):
    _, _, tokenizer = model
    for text in ("a photo of a damaged object.", "Stück für Müller", "漢字"):
        assert tokenizer.decode(tokenizer.encode(text)).strip() == text.lower().replace("object.", "object .")


def test_hand_written_prompts_find_defects_of_categories_it_never_saw(model):
    """Far from what a real CLIP does, and far from chance: with 100 + 100 images that is 0.5 +- 0.04."""
    clip, preprocess, tokenizer = model
    data = [
        example(c.name, role, i) for c in categories("auxiliary") for role in ("normal", "anomalous") for i in range(10)
    ]
    with torch.no_grad():
        words = (("flawless", "normal", "undamaged"), ("damaged", "defective", "abnormal"))
        texts = [clip.encode_text(tokenizer([f"a photo of a {w} object." for w in state])).mean(0) for state in words]
        normal, anomalous = F.normalize(torch.stack(texts), dim=-1)
        features = encode_image(clip.visual, torch.stack([preprocess(Image.fromarray(e.image)) for e in data]))
        scores = (F.normalize(features.image, dim=-1) @ (anomalous - normal)).numpy()
        patches = (F.normalize(features.patches, dim=-1) @ (anomalous - normal)).view(-1, 1, 14, 14)
        maps = F.interpolate(patches, (64, 64), mode="bilinear")[:, 0].numpy()
    truth, masks = np.array([e.anomalous for e in data]), np.stack([e.mask[::2, ::2] for e in data])
    image, pixel = ranking_scores(scores[~truth], scores[truth]), ranking_scores(maps[~masks], maps[masks])
    assert image is not None
    assert pixel is not None
    assert image.auroc > 0.60
    assert pixel.auroc > 0.68
