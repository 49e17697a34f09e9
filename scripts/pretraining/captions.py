"""What the pre-training images are called: captions in pairs that differ in the state alone.

Nothing here names an auxiliary or a test category, so that those names mean nothing to a model trained on it.
"""

from dataclasses import dataclass

from numpy.random import Generator

from cops_lightning.demo.canvas import chance, choose, whole
from cops_lightning.demo.catalog import CategorySpec, DefectSpec
from pretraining.catalog import OPEN_CATEGORIES

NORMAL = (
    "flawless {}", "perfect {}", "unblemished {}", "intact {}", "undamaged {}", "normal {}", "good {}", "clean {}",
    "healthy {}", "faultless {}", "{} without flaw", "{} without defect", "{} without damage", "{} in good condition",
)  # fmt: skip
ANOMALOUS = (
    "damaged {}", "defective {}", "broken {}", "faulty {}", "anomalous {}", "abnormal {}", "flawed {}", "blemished {}",
    "imperfect {}", "unhealthy {}", "bad {}", "{} with flaw", "{} with defect", "{} with damage", "{} with an anomaly",
    "{} in bad condition",
)  # fmt: skip
DEFECTIVE = ("{} with {defect}", "{} with a {defect}", "damaged {} with a {defect}", "{} that has a {defect}")
TEMPLATES = (
    "{}", "{}.", "a photo of a {}.", "a photo of the {}.", "a picture of a {}.", "an image of the {}.",
    "a close-up photo of a {}.", "a close-up photo of the {}.", "a cropped photo of a {}.",
    "a cropped photo of the {}.", "a bright photo of a {}.", "a dark photo of the {}.", "a blurry photo of the {}.",
    "a low resolution photo of a {}.", "a photo of a {} for visual inspection.",
    "a photo of the {} for anomaly detection.", "a photo of one {}.", "there is a {} in the image.",
    "this is a {}.", "an industrial photo of a {}.", "a medical image of a {}.",
)  # fmt: skip
GENERIC = (
    "object", "surface", "texture", "product", "item", "part", "sample", "material", "thing", "component", "image",
    "piece",
)  # fmt: skip
FILLERS = (
    "apple", "chair", "bread", "engine", "window", "cup", "shoe", "phone", "car", "table", "tree", "stone", "fish",
    "bird", "hat", "glove", "spoon", "plane", "ring", "box", "tube", "pipe", "wheel", "belt", "fan", "door", "book",
    "toy", "bag", "pen", "liver", "heart", "kidney", "thyroid", "stomach", "plastic", "metal", "glass", "rubber",
    "cotton", "silk", "hazelnut", "cashew", "macaroni", "gum", "bracket", "rail", "wafer", "panel", "can", "jar",
    "magnet", "steel", "road", "asphalt", "pavement", "magnetic", "stripe", "fryum", "pcb1", "colony", "organ",
)  # fmt: skip


@dataclass(frozen=True)
class CaptionPair:
    """One sentence for the normal and one for the anomalous image. `named`: both name the category; `defect`: the
    second one names the defect."""

    normal: str
    anomalous: str
    named: bool
    defect: bool


def _article(text: str) -> str:
    """`a` before a vowel becomes `an`."""
    words = text.split(" ")
    return " ".join("an" if w == "a" and n[:1] in "aeiou" else w for w, n in zip(words, [*words[1:], "."], strict=True))


def caption_pair(
    rng: Generator, category: CategorySpec, defect: DefectSpec, vocabulary: tuple[str, ...]
) -> CaptionPair:
    """Captions of a pair of images: same name and template, opposite states.

    Half of the names are the category's; the rest are generic nouns, nouns of something else, and random pieces of
    the vocabulary, so that the state is understood whatever the noun is.
    """
    draw, named = rng.random(), False
    if draw < 0.5 and category.name not in OPEN_CATEGORIES:
        name, named = choose(rng, (category.name, *category.synonyms)), True
    elif draw < 0.8:
        name = choose(rng, GENERIC)
    elif draw < 0.92:
        name = " ".join(choose(rng, FILLERS) for _ in range(whole(rng, 1, 2)))
    else:
        name = "".join(choose(rng, vocabulary) for _ in range(whole(rng, 1, 3)))
    template, tells = choose(rng, TEMPLATES), chance(rng, 0.4)
    good = name if chance(rng, 0.05) else choose(rng, NORMAL).format(name)
    if tells:
        bad = choose(rng, DEFECTIVE).format(name, defect=choose(rng, (defect.name, *defect.synonyms)))
    else:
        bad = choose(rng, ANOMALOUS).format(name)
    return CaptionPair(_article(template.format(good)), _article(template.format(bad)), named, tells)


def phrases() -> tuple[str, ...]:
    """Every phrase a caption can hold, category and defect names aside: what a vocabulary must spell well."""
    states = [s.replace("{defect}", " ").replace("{}", " ") for s in (*NORMAL, *ANOMALOUS, *DEFECTIVE, *TEMPLATES)]
    return (*states, *GENERIC, *FILLERS)
