"""The table of categories and defects, and which of them auxiliary and test images may have.

They share no category, no name and no synonym with each other, nor with what `mini` was pre-trained on. The test
categories and their difficulty were fixed before any model was evaluated on them and stay as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from numpy.random import Generator

from cops_lightning.demo import defects, renderers
from cops_lightning.demo.canvas import Scene
from cops_lightning.demo.defects import Painted

Split = Literal["auxiliary", "test"]
Kind = Literal["texture", "object", "medical"]
Difficulty = Literal["easy", "medium", "hard"]


@dataclass(frozen=True)
class DefectSpec:
    """A way to be anomalous. `confined` defects stay on the subject; `held_out` ones are in test images only."""

    name: str
    synonyms: tuple[str, ...]
    paint: Callable[[Generator, Scene], Painted]
    confined: bool = True
    held_out: bool = False


INDUSTRIAL = (
    DefectSpec("scratch", ("scratches", "scratch mark"), defects.scratch),
    DefectSpec("crack", ("cracks", "fracture"), defects.crack),
    DefectSpec("hole", ("puncture",), defects.hole),
    DefectSpec("stain", ("smear", "dirt"), defects.stain),
    DefectSpec("contamination", ("spots", "foreign particles"), defects.contamination),
    DefectSpec("missing part", ("missing piece", "broken off part"), defects.missing_part, confined=False),
    DefectSpec("cut", ("slit", "tear"), defects.cut),
    DefectSpec("deformation", ("bent part", "distortion"), defects.deformation, confined=False),
    DefectSpec("discoloration", ("color defect", "burn mark"), defects.discoloration),
    DefectSpec("wear", ("worn spot", "abrasion"), defects.wear),
    DefectSpec("foreign object", ("foreign body",), defects.foreign_object, confined=False),
    DefectSpec("fold", ("crease", "wrinkle"), defects.fold),
    DefectSpec("misplacement", ("misplaced part", "misprint"), defects.misplacement),
    DefectSpec("thread", ("fiber", "hair"), defects.thread, confined=False, held_out=True),
    DefectSpec("dent", ("bump", "bulge"), defects.dent, held_out=True),
)
LESION = DefectSpec("lesion", ("bleeding",), defects.lesion)
MOLE = DefectSpec("mole", ("melanoma",), defects.mole)
TUMOR = DefectSpec("tumor", ("tumour",), defects.lesion)
DEFECTS = {spec.name: spec for spec in (*INDUSTRIAL, LESION, MOLE, TUMOR)}
CLINICAL = (LESION, TUMOR, DEFECTS["discoloration"], DEFECTS["contamination"])


@dataclass(frozen=True)
class CategorySpec:
    """A kind of image, with the defects it can have. A test category has a difficulty, an auxiliary one has none."""

    name: str
    synonyms: tuple[str, ...]
    kind: Kind
    render: Callable[[Generator], Scene]
    defects: tuple[DefectSpec, ...] = INDUSTRIAL
    difficulty: Difficulty | None = None


_TABLE = (
    CategorySpec("brick wall", ("bricks",), "texture", renderers.brick_wall),
    CategorySpec("diamond plate", ("tread plate",), "texture", renderers.diamond_plate),
    CategorySpec("wicker", ("basketwork",), "texture", renderers.wicker),
    CategorySpec("coin", ("medal",), "object", renderers.coin),
    CategorySpec("dice", ("die",), "object", renderers.dice),
    CategorySpec("leaf", ("plant leaf",), "object", renderers.leaf),
    CategorySpec("comb", ("hair comb",), "object", renderers.comb),
    CategorySpec("socket", ("power outlet",), "object", renderers.socket),
    CategorySpec("chest x-ray", ("lung",), "medical", renderers.chest_xray, CLINICAL),
    CategorySpec("blood smear", ("blood cells",), "medical", renderers.blood_smear, CLINICAL),
    # easy: a near relative among the auxiliary categories
    CategorySpec("ceramic tile", ("tiles",), "texture", renderers.ceramic_tile, INDUSTRIAL, "easy"),
    CategorySpec("perforated screen", ("punched screen",), "texture", renderers.perforated_plate, INDUSTRIAL, "easy"),
    CategorySpec("button", ("shirt button",), "object", renderers.button, INDUSTRIAL, "easy"),
    CategorySpec("bone radiograph", ("knee joint",), "medical", renderers.bone_xray, CLINICAL, "easy"),
    # medium: no near relative
    CategorySpec("leather", ("hide",), "texture", renderers.leather, INDUSTRIAL, "medium"),
    CategorySpec("gear", ("cog",), "object", renderers.gear, INDUSTRIAL, "medium"),
    CategorySpec("capsule", ("gelatin caplet",), "object", renderers.capsule, INDUSTRIAL, "medium"),
    CategorySpec("brain", ("head mri",), "medical", renderers.brain, CLINICAL, "medium"),
    # hard: no near relative, several unlike parts or a layout of gaps
    CategorySpec("wire mesh", ("grid",), "texture", renderers.wire_mesh, INDUSTRIAL, "hard"),
    CategorySpec("cable", ("cable cross-section",), "object", renderers.cable, INDUSTRIAL, "hard"),
    CategorySpec("transistor", ("three-legged device",), "object", renderers.transistor, INDUSTRIAL, "hard"),
    CategorySpec("skin", ("dermoscopy",), "medical", renderers.skin, (MOLE, *CLINICAL), "hard"),
)
CATEGORIES = {spec.name: spec for spec in _TABLE}


def categories(split: Split, difficulty: Difficulty | None = None) -> tuple[CategorySpec, ...]:
    """The categories of a split in the order of the table, optionally only those of one difficulty."""
    of_split = (spec for spec in _TABLE if (spec.difficulty is None) == (split == "auxiliary"))
    return tuple(spec for spec in of_split if difficulty in (None, spec.difficulty))


def defects_of(category: CategorySpec) -> tuple[DefectSpec, ...]:
    """The defects that images of a category can have."""
    return tuple(spec for spec in category.defects if category.difficulty or not spec.held_out)
