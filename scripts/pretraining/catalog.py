"""What `mini` is pre-trained on: categories and defects that share no name or synonym with those of the package.

Auxiliary and test categories of the package and its held-out defects stay unseen.
"""

from cops_lightning.demo.catalog import CLINICAL, CategorySpec, DefectSpec
from cops_lightning.demo.catalog import DEFECTS as PACKAGED
from pretraining import defects, medical, objects, textures

POLYP = DefectSpec("polyp", ("growth",), defects.polyp)
OPEN_DEFECT = DefectSpec("anomaly", ("irregularity", "flaw", "defect"), defects.any_defect)
DEFECTS = PACKAGED | {spec.name: spec for spec in (POLYP, OPEN_DEFECT)}

NAMED = (
    CategorySpec("wood", ("wooden board", "timber"), "texture", textures.wood),
    CategorySpec("marble", ("stone slab",), "texture", textures.marble),
    CategorySpec("brushed metal", ("metal sheet", "steel panel"), "texture", textures.brushed_metal),
    CategorySpec("carpet", ("rug",), "texture", textures.carpet),
    CategorySpec("knitwear", ("knitted fabric", "wool sweater"), "texture", textures.knitwear),
    CategorySpec("concrete", ("cement",), "texture", textures.concrete),
    CategorySpec("paper", ("sheet of paper",), "texture", textures.paper),
    CategorySpec("cork", ("cork board",), "texture", textures.cork),
    CategorySpec("denim", ("jeans",), "texture", textures.denim),
    CategorySpec("terrazzo", ("stone floor",), "texture", textures.terrazzo),
    CategorySpec("corrugated cardboard", ("cardboard",), "texture", textures.corrugated),
    CategorySpec("sandpaper", ("abrasive sheet",), "texture", textures.sandpaper),
    CategorySpec("pebbles", ("gravel",), "texture", textures.pebbles),
    CategorySpec("wallpaper", ("printed pattern",), "texture", textures.wallpaper),
    CategorySpec("corduroy", ("ribbed cloth",), "texture", textures.corduroy),
    CategorySpec("foam", ("sponge",), "texture", textures.foam),
    CategorySpec("granite", ("granite slab",), "texture", textures.granite),
    CategorySpec("felt", ("felt sheet",), "texture", textures.felt),
    CategorySpec("camouflage", ("camouflage cloth",), "texture", textures.camouflage),
    CategorySpec("bamboo mat", ("bamboo",), "texture", textures.bamboo_mat),
    CategorySpec("mosaic", ("stained glass",), "texture", textures.mosaic),
    CategorySpec("plaster", ("stucco",), "texture", textures.plaster),
    CategorySpec("rope", ("cordage",), "texture", textures.rope),
    CategorySpec("parquet", ("wooden floor",), "texture", textures.parquet),
    CategorySpec("nut", ("hex nut", "metal nut"), "object", objects.nut),
    CategorySpec("washer", ("flat washer",), "object", objects.washer),
    CategorySpec("screw", ("bolt",), "object", objects.screw),
    CategorySpec("pill", ("tablet",), "object", objects.pill),
    CategorySpec("bottle", ("bottle seen from above",), "object", objects.bottle),
    CategorySpec("circuit board", ("pcb",), "object", objects.circuit_board),
    CategorySpec("cookie", ("biscuit",), "object", objects.cookie),
    CategorySpec("candle", ("wax candle",), "object", objects.candle),
    CategorySpec("key", ("door key",), "object", objects.key),
    CategorySpec("chip", ("integrated circuit",), "object", objects.chip),
    CategorySpec("battery", ("cell",), "object", objects.battery),
    CategorySpec("lens", ("glass disc",), "object", objects.lens),
    CategorySpec("zipper", ("zip",), "object", objects.zipper),
    CategorySpec("toothbrush", ("brush",), "object", objects.toothbrush),
    CategorySpec("bearing", ("ball bearing",), "object", objects.bearing),
    CategorySpec("watch", ("clock face",), "object", objects.watch),
    CategorySpec("spring", ("coil",), "object", objects.spring),
    CategorySpec("flower", ("blossom",), "object", objects.flower),
    CategorySpec("keyboard", ("keypad",), "object", objects.keyboard),
    CategorySpec("fuse", ("glass fuse",), "object", objects.fuse),
    CategorySpec("pencil", ("crayon",), "object", objects.pencil),
    CategorySpec("pizza", ("flatbread",), "object", objects.pizza),
    CategorySpec("paint palette", ("paint set",), "object", objects.paint_palette),
    CategorySpec("cord bundle", ("loose leads",), "object", objects.cord_bundle),
    CategorySpec("mucosa", ("colon", "endoscopy image"), "medical", medical.mucosa, (POLYP, *CLINICAL)),
    CategorySpec("retina", ("fundus image",), "medical", medical.retina, CLINICAL),
    CategorySpec("ultrasound", ("sonogram",), "medical", medical.ultrasound, CLINICAL),
    CategorySpec("histology", ("tissue slide",), "medical", medical.histology, CLINICAL),
    CategorySpec(
        "teeth scan", ("dental scan",), "medical", medical.teeth_scan, (DEFECTS["crack"], DEFECTS["hole"], *CLINICAL)
    ),
)
OPEN = (
    CategorySpec("abstract texture", (), "texture", textures.any_texture),
    CategorySpec("abstract object", (), "object", objects.any_object),
    CategorySpec("abstract component", (), "object", objects.any_component),
)
CATEGORIES = {spec.name: spec for spec in (*NAMED, *OPEN)}
OPEN_CATEGORIES = tuple(spec.name for spec in OPEN)
