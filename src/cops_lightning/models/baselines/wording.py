"""What hand-written prompts say: the name of what is seen, in its normal and its anomalous states."""

import re
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from cops_lightning.clip.frozen_clip import FrozenClip
from cops_lightning.clip.tokenizer import encode_texts
from cops_lightning.models.alignment import unit

# What a category without a word in its name, such as BTAD's 01, is called.
OBJECT = "object"

# CLIP with one sentence per state (arXiv 2103.00020), worded as AnomalyCLIP's comparison has it (arXiv 2310.18961).
PLAIN = (("a photo of a normal {}.",), ("a photo of an anomalous {}.",))

# WinCLIP's compositional prompt ensemble (arXiv 2303.14814, appendix): every state in every template.
STATES = (
    ("{}", "flawless {}", "perfect {}", "unblemished {}", "{} without flaw", "{} without defect", "{} without damage"),
    ("damaged {}", "{} with flaw", "{} with defect", "{} with damage"),
)
TEMPLATES = (
    *(f"a {look} photo of {article} {{}}." for look in ("cropped", "close-up", "bright", "dark", "blurry")
      for article in ("a", "the")),
    *(f"a jpeg corrupted photo of {article} {{}}." for article in ("a", "the")),
    *(f"a photo of {article} {size}{{}}." for size in ("", "small ", "large ") for article in ("a", "the")),
    *(f"a photo of {article} {{}} for {aim}." for aim in ("visual inspection", "anomaly detection")
      for article in ("a", "the")),
)  # fmt: skip
ENSEMBLE = tuple(tuple(template.format(state) for state in states for template in TEMPLATES) for states in STATES)

Sentences = Sequence[Sequence[str]]


def spoken(category: str, names: Mapping[str, str]) -> str:
    """What a category is called in a sentence: as `names` has it, else its own name in words, without numbers."""
    if category in names:
        return names[category]
    words = re.split(r"[\W\d_]+", category)
    return " ".join(word.lower() for word in words if word) or OBJECT


class StatePrompts:
    """Text features of the two states of any category, each encoded once.

    `sentences` are those of the normal and of the anomalous state, with {} for the name; their unit features are
    averaged and made unit again. `names` gives categories a name to be called by.
    """

    def __init__(self, backbone: FrozenClip, sentences: Sentences, names: Mapping[str, str]) -> None:
        self.backbone, self.sentences, self.names = backbone, sentences, dict(names)
        self._known: dict[str, Float[Tensor, "2 d"]] = {}

    def __call__(self, categories: Sequence[str]) -> Float[Tensor, "b 2 d"]:
        """Unit features, normal first, of each image's category."""
        return torch.stack([self._features(spoken(category, self.names)) for category in categories])

    def _features(self, name: str) -> Float[Tensor, "2 d"]:
        if name not in self._known:
            states = [[sentence.format(name) for sentence in state] for state in self.sentences]
            encoded = encode_texts(self.backbone, [sentence for state in states for sentence in state])
            means = [part.mean(dim=0) for part in torch.split(encoded, [len(state) for state in states])]
            self._known[name] = unit(torch.stack(means))
        return self._known[name].to(self.backbone.clip.text_projection.device)
