"""The table of categories and defects, and which of them each split may use.

Pre-training, auxiliary and test share no category, no name and no synonym. The test categories and their difficulty
were fixed before any model was evaluated on them and stay as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from numpy.random import Generator

from cops_lightning.demo import defects, medical, objects, textures
from cops_lightning.demo.canvas import Scene
from cops_lightning.demo.defects import Painted
from cops_lightning.demo.imaging import FIELD, STUDIO, WORKSHOP, Lighting

Split = Literal["pretrain", "auxiliary", "test"]
Kind = Literal["texture", "object", "medical"]
Difficulty = Literal["easy", "medium", "hard"]


@dataclass(frozen=True)
class DefectSpec:
    """A way to be anomalous. `confined` defects stay on the subject; others may reach beyond it."""

    name: str
    synonyms: tuple[str, ...]
    paint: Callable[[Generator, Scene], Painted]
    confined: bool = True
    held_out: bool = False


@dataclass(frozen=True)
class CategorySpec:
    """A kind of image. `defects` names those it can have; empty stands for all industrial ones its split allows."""

    name: str
    synonyms: tuple[str, ...]
    kind: Kind
    render: Callable[[Generator], Scene]
    split: Split
    difficulty: Difficulty | None = None
    defects: tuple[str, ...] = ()


def _index(*specs: DefectSpec) -> dict[str, DefectSpec]:
    return {spec.name: spec for spec in specs}


INDUSTRIAL = _index(
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
MEDICAL = _index(
    DefectSpec("polyp", ("growth",), defects.polyp),
    DefectSpec("lesion", ("bleeding",), defects.lesion),
    DefectSpec("mole", ("melanoma",), defects.mole),
    DefectSpec("tumor", ("tumour",), defects.lesion),
)
OPEN_DEFECT = DefectSpec("anomaly", ("irregularity", "flaw", "defect"), defects.any_defect)
DEFECTS = INDUSTRIAL | MEDICAL | {OPEN_DEFECT.name: OPEN_DEFECT}

_CLINICAL = ("lesion", "tumor", "discoloration", "contamination")


def _pretrain(
    kind: Kind, name: str, synonyms: tuple[str, ...], render: Callable[[Generator], Scene], marks: tuple[str, ...] = ()
) -> CategorySpec:
    return CategorySpec(name, synonyms, kind, render, "pretrain", None, marks)


def _auxiliary(
    kind: Kind, name: str, synonyms: tuple[str, ...], render: Callable[[Generator], Scene], marks: tuple[str, ...] = ()
) -> CategorySpec:
    return CategorySpec(name, synonyms, kind, render, "auxiliary", None, marks)


_PRETRAIN = (
    _pretrain("texture", "wood", ("wooden board", "timber"), textures.wood),
    _pretrain("texture", "marble", ("stone slab",), textures.marble),
    _pretrain("texture", "brushed metal", ("metal sheet", "steel panel"), textures.brushed_metal),
    _pretrain("texture", "carpet", ("rug",), textures.carpet),
    _pretrain("texture", "knitwear", ("knitted fabric", "wool sweater"), textures.knitwear),
    _pretrain("texture", "concrete", ("cement",), textures.concrete),
    _pretrain("texture", "paper", ("sheet of paper",), textures.paper),
    _pretrain("texture", "cork", ("cork board",), textures.cork),
    _pretrain("texture", "denim", ("jeans",), textures.denim),
    _pretrain("texture", "terrazzo", ("stone floor",), textures.terrazzo),
    _pretrain("texture", "corrugated cardboard", ("cardboard",), textures.corrugated),
    _pretrain("texture", "sandpaper", ("abrasive sheet",), textures.sandpaper),
    _pretrain("texture", "pebbles", ("gravel",), textures.pebbles),
    _pretrain("texture", "wallpaper", ("printed pattern",), textures.wallpaper),
    _pretrain("texture", "corduroy", ("ribbed cloth",), textures.corduroy),
    _pretrain("texture", "foam", ("sponge",), textures.foam),
    _pretrain("texture", "granite", ("granite slab",), textures.granite),
    _pretrain("texture", "felt", ("felt sheet",), textures.felt),
    _pretrain("texture", "camouflage", ("camouflage cloth",), textures.camouflage),
    _pretrain("texture", "bamboo mat", ("bamboo",), textures.bamboo_mat),
    _pretrain("texture", "mosaic", ("stained glass",), textures.mosaic),
    _pretrain("texture", "plaster", ("stucco",), textures.plaster),
    _pretrain("texture", "rope", ("cordage",), textures.rope),
    _pretrain("texture", "parquet", ("wooden floor",), textures.parquet),
    _pretrain("object", "nut", ("hex nut", "metal nut"), objects.nut),
    _pretrain("object", "washer", ("flat washer",), objects.washer),
    _pretrain("object", "screw", ("bolt",), objects.screw),
    _pretrain("object", "pill", ("tablet",), objects.pill),
    _pretrain("object", "bottle", ("bottle seen from above",), objects.bottle),
    _pretrain("object", "circuit board", ("pcb",), objects.circuit_board),
    _pretrain("object", "cookie", ("biscuit",), objects.cookie),
    _pretrain("object", "candle", ("wax candle",), objects.candle),
    _pretrain("object", "key", ("door key",), objects.key),
    _pretrain("object", "chip", ("integrated circuit",), objects.chip),
    _pretrain("object", "battery", ("cell",), objects.battery),
    _pretrain("object", "lens", ("glass disc",), objects.lens),
    _pretrain("object", "zipper", ("zip",), objects.zipper),
    _pretrain("object", "toothbrush", ("brush",), objects.toothbrush),
    _pretrain("object", "bearing", ("ball bearing",), objects.bearing),
    _pretrain("object", "watch", ("clock face",), objects.watch),
    _pretrain("object", "spring", ("coil",), objects.spring),
    _pretrain("object", "flower", ("blossom",), objects.flower),
    _pretrain("object", "keyboard", ("keypad",), objects.keyboard),
    _pretrain("object", "fuse", ("glass fuse",), objects.fuse),
    _pretrain("object", "pencil", ("crayon",), objects.pencil),
    _pretrain("object", "pizza", ("flatbread",), objects.pizza),
    _pretrain("object", "paint palette", ("paint set",), objects.paint_palette),
    _pretrain("object", "cord bundle", ("loose leads",), objects.cord_bundle),
    _pretrain("medical", "mucosa", ("colon", "endoscopy image"), medical.mucosa, ("polyp", *_CLINICAL)),
    _pretrain("medical", "retina", ("fundus image",), medical.retina, _CLINICAL),
    _pretrain("medical", "ultrasound", ("sonogram",), medical.ultrasound, _CLINICAL),
    _pretrain("medical", "histology", ("tissue slide",), medical.histology, _CLINICAL),
    _pretrain("medical", "teeth scan", ("dental scan",), medical.teeth_scan, ("crack", "hole", *_CLINICAL)),
)
_OPEN = (
    _pretrain("texture", "abstract texture", (), textures.any_texture),
    _pretrain("object", "abstract object", (), objects.any_object),
    _pretrain("object", "abstract component", (), objects.any_component),
)
_AUXILIARY = (
    _auxiliary("texture", "brick wall", ("bricks",), textures.brick_wall),
    _auxiliary("texture", "diamond plate", ("tread plate",), textures.diamond_plate),
    _auxiliary("texture", "wicker", ("basketwork",), textures.wicker),
    _auxiliary("object", "coin", ("medal",), objects.coin),
    _auxiliary("object", "dice", ("die",), objects.dice),
    _auxiliary("object", "leaf", ("plant leaf",), objects.leaf),
    _auxiliary("object", "comb", ("hair comb",), objects.comb),
    _auxiliary("object", "socket", ("power outlet",), objects.socket),
    _auxiliary("medical", "chest x-ray", ("lung",), medical.chest_xray, _CLINICAL),
    _auxiliary("medical", "blood smear", ("blood cells",), medical.blood_smear, _CLINICAL),
)
_TEST = (
    # easy: a near relative among the auxiliary categories, the same studio light
    CategorySpec("ceramic tile", ("tiles",), "texture", textures.ceramic_tile, "test", "easy"),
    CategorySpec("perforated screen", ("punched screen",), "texture", textures.perforated_plate, "test", "easy"),
    CategorySpec("button", ("shirt button",), "object", objects.button, "test", "easy"),
    CategorySpec("bone radiograph", ("knee joint",), "medical", medical.bone_xray, "test", "easy", _CLINICAL),
    # medium: no near relative, workshop light
    CategorySpec("leather", ("hide",), "texture", textures.leather, "test", "medium"),
    CategorySpec("gear", ("cog",), "object", objects.gear, "test", "medium"),
    CategorySpec("capsule", ("gelatin caplet",), "object", objects.capsule, "test", "medium"),
    CategorySpec("brain", ("head mri",), "medical", medical.brain, "test", "medium", _CLINICAL),
    # hard: no near relative, several unlike parts or a layout of gaps, field light
    CategorySpec("wire mesh", ("grid",), "texture", textures.wire_mesh, "test", "hard"),
    CategorySpec("cable", ("cable cross-section",), "object", objects.cable, "test", "hard"),
    CategorySpec("transistor", ("three-legged device",), "object", objects.transistor, "test", "hard"),
    CategorySpec("skin", ("dermoscopy",), "medical", medical.skin, "test", "hard", ("mole", *_CLINICAL)),
)
CATEGORIES = {spec.name: spec for spec in (*_PRETRAIN, *_OPEN, *_AUXILIARY, *_TEST)}
OPEN_CATEGORIES = tuple(spec.name for spec in _OPEN)

LIGHTING: dict[Difficulty, Lighting] = {"easy": STUDIO, "medium": WORKSHOP, "hard": FIELD}


def categories(split: Split, difficulty: Difficulty | None = None) -> tuple[CategorySpec, ...]:
    """The categories of a split in the order of the table, optionally only those of one difficulty."""
    return tuple(c for c in CATEGORIES.values() if c.split == split and difficulty in (None, c.difficulty))


def defects_of(category: CategorySpec) -> tuple[DefectSpec, ...]:
    """The defects a category can have in its split; the held-out ones appear in the test split only."""
    named = category.defects or tuple(INDUSTRIAL)
    return tuple(DEFECTS[name] for name in named if category.split == "test" or not DEFECTS[name].held_out)
