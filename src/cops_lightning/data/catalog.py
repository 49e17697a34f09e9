"""The published datasets: one row each, with the layouts they are found in.

Counts, layouts and quirks were collected from the publishers' files and from the scripts and file lists of CoPS,
AnomalyCLIP, AdaCLIP, AA-CLIP, Bayes-PFL and anomalib.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from cops_lightning.core.errors import ConfigError, DatasetError
from cops_lightning.core.near_miss import did_you_mean
from cops_lightning.data.readers.spec import Counts, DatasetSpec, Folders, Table

_MVTEC_MASKS = ("{category}/ground_truth/{defect}/{stem}_mask", "{category}/ground_truth/{defect}/{stem}")
_CATEGORY_FOLDERS = Folders("category folders", ("{category}/{split:train|test}/{defect}/{stem}",), _MVTEC_MASKS)
_REPEATED_FOLDERS = Folders(
    "category folders, each nested in itself",
    ("{category}/{category}/{split:train|test}/{defect}/{stem}",),
    tuple("{category}/" + mask for mask in _MVTEC_MASKS),
)
_ONE_CATEGORY = Folders(
    "curated, one category folder",
    ("{category}/{split:train|test}/{defect}/{stem}",),
    tuple(f"{{category}}/ground_truth/{{defect}}/{{stem}}{suffix}" for suffix in ("_mask", "_segmentation", "")),
)
_SPLIT_FOLDERS = Folders(
    "curated, split folders",
    ("{split:train|test}/{defect}/{stem}",),
    tuple(f"ground_truth/{{defect}}/{{stem}}{suffix}" for suffix in ("_mask", "_segmentation", "")),
)
_PAIRS = Folders(
    "images and masks",
    ("{*:images|image}/{stem}",),
    ("{*:masks|mask}/{stem}_mask", "{*:masks|mask}/{stem}_segmentation", "{*:masks|mask}/{stem}"),
)
_YES_NO = Folders(
    "class folders no and yes",
    ("{defect:no|yes}/{stem}",),
    ignore=("pred/{stem}", "Br35H-Mask-RCNN/{*}/{stem}", "brain_tumor_dataset/{*:no|yes}/{stem}"),
)
_CURATED = (_ONE_CATEGORY, _SPLIT_FOLDERS)
_POLYP_WRAPPERS = ("Polyp_DataSet", "TestDataset", "PNG", "TIF")


def _counts(rows: str) -> Mapping[str, Counts]:
    """Counts from lines of: category, training images, normal test images, anomalous test images."""
    table = (line.split() for line in rows.strip().splitlines())
    return MappingProxyType({name: Counts(*map(int, numbers)) for name, *numbers in table})


_ROWS = (
    DatasetSpec(
        "mvtec",
        (_CATEGORY_FOLDERS, _REPEATED_FOLDERS),
        title="MVTec-AD",
        domain="industrial",
        counts=_counts("""
            bottle     209 20  63
            cable      224 58  92
            capsule    219 23 109
            carpet     280 28  89
            grid       264 21  57
            hazelnut   391 40  70
            leather    245 32  92
            metal_nut  220 22  93
            pill       267 26 141
            screw      320 41 119
            tile       230 33  84
            toothbrush  60 12  30
            transistor 213 60  40
            wood       247 19  60
            zipper     240 32 119"""),
        has_masks=True,
        has_normal=True,
        url="https://www.mvtec.com/company/research/datasets/mvtec-ad",
        licence="CC BY-NC-SA 4.0",
        folders=("mvtec", "MVTecAD", "MVTec-AD", "mvtec_ad"),
        wrappers=("mvtec_anomaly_detection",),
    ),
    DatasetSpec(
        "visa",
        (
            Table(
                "publisher, split by split_csv/1cls.csv",
                "split_csv/1cls.csv",
                {"image": "image", "mask": "mask", "category": "object", "split": "split", "label": "label"},
                places=("{category}/Data/Images/{*}/{stem}",),
            ),
            _CATEGORY_FOLDERS,
            _REPEATED_FOLDERS,
        ),
        title="VisA",
        domain="industrial",
        counts=_counts("""
            candle     900 100 100
            capsules   542  60 100
            cashew     450  50 100
            chewinggum 453  50 100
            fryum      450  50 100
            macaroni1  900 100 100
            macaroni2  900 100 100
            pcb1       904 100 100
            pcb2       901 100 100
            pcb3       905 101 100
            pcb4       904 101 100
            pipe_fryum 450  50 100"""),
        has_masks=True,
        has_normal=True,
        mask_threshold=0,
        url="https://github.com/amazon-science/spot-diff",
        licence="CC BY 4.0",
        folders=("visa",),
        wrappers=("VisA_20220922", "VisA_pytorch", "1cls"),
    ),
    DatasetSpec(
        "btad",
        (_CATEGORY_FOLDERS,),
        title="BTAD",
        domain="industrial",
        counts=_counts("""
            01  400  21  49
            02  399  30 200
            03 1000 400  41"""),
        has_masks=True,
        has_normal=True,
        url="https://github.com/pankajmishra000/VT-ADL",
        licence="CC BY-SA",
        folders=("btad", "btech"),
        wrappers=("BTech_Dataset_transformed",),
        aliases=("btech",),
        renamed=MappingProxyType({"metal1": "01", "wood": "02", "metal2": "03"}),
    ),
    DatasetSpec(
        "mpdd",
        (_CATEGORY_FOLDERS,),
        title="MPDD",
        domain="industrial",
        counts=_counts("""
            bracket_black 289 32 47
            bracket_brown 185 26 51
            bracket_white 110 30 30
            connector     128 30 14
            metal_plate    54 26 71
            tubes         122 32 69"""),
        unconfirmed_train=frozenset({"bracket_black", "bracket_brown", "bracket_white", "connector", "tubes"}),
        has_masks=True,
        has_normal=True,
        url="https://github.com/stepanje/MPDD",
        licence="CC BY-NC-SA 4.0",
        folders=("mpdd",),
        wrappers=("anomaly_dataset",),
    ),
    DatasetSpec(
        "dtd_synthetic",
        (_CATEGORY_FOLDERS,),
        title="DTD-Synthetic",
        domain="industrial",
        counts=_counts("""
            Blotchy_099    100 20 80
            Fibrous_183    100 20 80
            Marbled_078    100 20 80
            Matted_069     100 20 79
            Mesh_114       100 36 80
            Perforated_037 100 20 80
            Stratified_154 100 20 80
            Woven_001      100 30 70
            Woven_068      100 51 79
            Woven_104      100 20 80
            Woven_125      100 20 79
            Woven_127      100 80 80"""),
        has_masks=True,
        has_normal=True,
        url="https://drive.google.com/drive/folders/10OyPzvI3H6llCZBxKxFlKWt1Pw1tkMK1",
        licence="none stated",
        folders=("dtd_synthetic", "DTDSynthetic", "DTD"),
        wrappers=("DTD-Synthetic",),
        renamed=MappingProxyType(
            {
                "blotchy": "Blotchy_099",
                "fibrous": "Fibrous_183",
                "marbled2": "Marbled_078",
                "matted1": "Matted_069",
                "mesh": "Mesh_114",
                "perforated": "Perforated_037",
                "stratified": "Stratified_154",
                "woven1": "Woven_127",
                "woven2": "Woven_125",
                "woven3": "Woven_104",
                "woven4": "Woven_068",
                "woven5": "Woven_001",
            }
        ),
    ),
    DatasetSpec(
        "headct",
        (
            Table(
                "publisher, labels.csv",
                "labels.csv",
                {"image": "head_ct/head_ct/{id:03d}.png", "label": "hemorrhage"},
                places=("head_ct/head_ct/{stem:d}",),
            ),
            Table(
                "publisher, labels.csv, one folder",
                "labels.csv",
                {"image": "head_ct/{id:03d}.png", "label": "hemorrhage"},
                places=("head_ct/{stem:d}",),
            ),
            *_CURATED,
        ),
        title="HeadCT",
        domain="medical",
        counts=_counts("brain 0 100 100"),
        has_masks=False,
        has_normal=True,
        defect="hemorrhage",
        url="https://www.kaggle.com/datasets/felipekitamura/head-ct-hemorrhage",
        licence="none stated",
        folders=("headct", "head-ct-hemorrhage"),
        wrappers=("HeadCT_anomaly_detection",),
        aliases=("head_ct", "head-ct"),
    ),
    DatasetSpec(
        "brainmri",
        (_YES_NO, *_CURATED),
        title="BrainMRI",
        domain="medical",
        counts=_counts("brain 0 98 155"),
        has_masks=False,
        has_normal=True,
        defect="tumor",
        url="https://www.kaggle.com/datasets/navoneel/brain-mri-images-for-brain-tumor-detection",
        licence="none stated",
        folders=("brainmri", "brain_mri"),
        wrappers=("brain_tumor_dataset",),
        aliases=("brain_mri", "brain-mri", "brain"),
    ),
    DatasetSpec(
        "br35h",
        (_YES_NO, *_CURATED),
        title="Br35H",
        domain="medical",
        counts=_counts("brain 0 1500 1500"),
        has_masks=False,
        has_normal=True,
        defect="tumor",
        url="https://www.kaggle.com/datasets/ahmedhamada0/brain-tumor-detection",
        licence="none stated",
        folders=("br35h",),
        wrappers=("Br35h_anomaly_detection",),
    ),
    DatasetSpec(
        "isic",
        (
            Folders(
                "publisher, ISBI 2016 part 1",
                ("ISBI2016_ISIC_Part1_Test_Data/{stem}",),
                ("ISBI2016_ISIC_Part1_Test_GroundTruth/{stem}_segmentation",),
                ignore=("ISBI2016_ISIC_Part1_Training_{*}/{stem}",),
            ),
            Folders(
                "curated, skin/test and the publisher's masks",
                ("{category}/{split:test}/{defect}/{stem}",),
                ("{category}/ISBI2016_ISIC_Part1_Test_GroundTruth/{stem}_segmentation",),
            ),
            Folders(
                "curated, test and the publisher's masks",
                ("{split:test}/{defect}/{stem}",),
                ("ISBI2016_ISIC_Part1_Test_GroundTruth/{stem}_segmentation",),
            ),
            *_CURATED,
        ),
        title="ISIC 2016",
        domain="medical",
        counts=_counts("skin 0 0 379"),
        has_masks=True,
        has_normal=False,
        defect="lesion",
        url="https://challenge.isic-archive.com/data/",
        licence="CC0, ISIC terms of use",
        folders=("isic", "ISIC2016"),
        wrappers=("ISBI",),
    ),
    DatasetSpec(
        "colondb",
        (
            _PAIRS,
            Folders(
                "publisher, one flat folder",
                ("{stem:d}",),
                ("p{stem:d}",),
                ignore=("c{stem}", "s{stem}"),
            ),
            *_CURATED,
        ),
        title="CVC-ColonDB",
        domain="medical",
        counts=_counts("colon 0 0 380"),
        has_masks=True,
        has_normal=False,
        defect="polyp",
        url="http://vi.cvc.uab.es/colon-qa/cvccolondb/",
        licence="research and education only",
        folders=("colondb",),
        wrappers=("CVC-ColonDB", *_POLYP_WRAPPERS),
        aliases=("cvc-colondb", "cvc_colondb"),
    ),
    DatasetSpec(
        "clinicdb",
        (
            Folders(
                "publisher, Original and Ground Truth",
                ("Original/{stem}",),
                ("{*:Ground Truth|Ground_Truth|GroundTruth}/{stem}",),
            ),
            _PAIRS,
            *_CURATED,
        ),
        title="CVC-ClinicDB",
        domain="medical",
        counts=_counts("colon 0 0 612"),
        has_masks=True,
        has_normal=False,
        defect="polyp",
        url="https://polyp.grand-challenge.org/CVCClinicDB/",
        licence="research and education only",
        folders=("clinicdb",),
        wrappers=("CVC-ClinicDB", *_POLYP_WRAPPERS),
        aliases=("cvc-clinicdb", "cvc_clinicdb"),
    ),
    DatasetSpec(
        "kvasir",
        (_PAIRS, *_CURATED),
        title="Kvasir-SEG",
        domain="medical",
        counts=_counts("colon 0 0 1000"),
        has_masks=True,
        has_normal=False,
        defect="polyp",
        url="https://datasets.simula.no/kvasir-seg/",
        licence="research and education only",
        folders=("kvasir",),
        wrappers=("Kvasir-SEG", *_POLYP_WRAPPERS),
        aliases=("kvasir-seg", "kvasir_seg"),
    ),
    DatasetSpec(
        "endo",
        (
            _PAIRS,
            Folders("species folders and masks", ("{defect}/{stem}",), ("masks/{stem}",), normal=frozenset()),
            *_CURATED,
        ),
        title="EndoTect 2020",
        domain="medical",
        counts=_counts("colon 0 0 200"),
        has_masks=True,
        has_normal=False,
        defect="polyp",
        url="https://endotect.com/",
        licence="none stated",
        folders=("endo",),
        wrappers=("EndoTect_2020_Segmentation_Test_Dataset", "EndoTect"),
    ),
    DatasetSpec(
        "magnetic_tile",
        (
            Folders(
                "publisher, MT_<defect>/Imgs",
                ("MT_{defect}/Imgs/{stem}.jpg",),
                ("MT_{defect}/Imgs/{stem}.png",),
                ignore=("{stem}",),
            ),
        ),
        title="Magnetic tile defects",
        domain="industrial",
        counts=_counts("magnetic_tile 0 952 392"),
        has_masks=True,
        has_normal=True,
        url="https://github.com/abin24/Magnetic-tile-defect-datasets.",
        licence="free to use, cite Huang et al. 2018",
        folders=("magnetic_tile", "MagneticTile", "Magnetic-Tile-Defect"),
    ),
)

# What a folder of one's own is read as, if it is given without a spec.
OWN_LAYOUTS = (
    Folders(
        "folders {category}/{split}/{defect}",
        ("{category}/{split:train|test}/{defect}/{stem}",),
        ("{category}/ground_truth/{defect}/{stem}_mask", "{category}/ground_truth/{defect}/{stem}"),
    ),
    Folders(
        "folders {split}/{defect}",
        ("{split:train|test}/{defect}/{stem}",),
        ("ground_truth/{defect}/{stem}_mask", "ground_truth/{defect}/{stem}"),
    ),
    Folders(
        "images and masks",
        ("{*:images|image}/{stem}",),
        ("{*:masks|mask}/{stem}_mask", "{*:masks|mask}/{stem}"),
    ),
    Folders(
        "class folders, normal and anomalous",
        (
            "{defect:good|ok|normal|no|free|healthy|negative}/{stem}",
            "{defect:anomaly|anomalous|abnormal|bad|ko|ng|defect|defective|yes|positive}/{stem}",
        ),
    ),
)

CATALOG: Mapping[str, DatasetSpec] = MappingProxyType({spec.name: spec for spec in _ROWS})
BENCHMARK = tuple(name for name in CATALOG if name != "magnetic_tile")  # the thirteen sets of the paper
# Words that stand for several targets. The procedural ones are rendered by `cops_lightning.demo`.
GROUPS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "all": BENCHMARK,
        "industrial": tuple(name for name in BENCHMARK if CATALOG[name].domain == "industrial"),
        "medical": tuple(name for name in BENCHMARK if CATALOG[name].domain == "medical"),
        "procedural": ("procedural_easy", "procedural_medium", "procedural_hard"),
    }
)


_SPELLINGS = {
    spelling.casefold(): spec for spec in _ROWS for spelling in (spec.name, spec.title, *spec.aliases, *spec.folders)
}


def spec_or_none(name: str) -> DatasetSpec | None:
    """The row of a dataset, by its name or another usual spelling."""
    return _SPELLINGS.get(name.strip().casefold())


def find_spec(name: str) -> DatasetSpec:
    """The row of a dataset, by its name or another usual spelling. Raises DatasetError with the nearest name."""
    if (spec := spec_or_none(name)) is None:
        raise unknown_dataset(name)
    return spec


def unknown_dataset(name: str) -> DatasetError:
    """The error for a name that no row has, with the nearest that one has."""
    hint = did_you_mean(name.strip().casefold(), _SPELLINGS, cutoff=0.5)
    return DatasetError(
        f"'{name}' is neither a known dataset nor an existing path.{hint} Known datasets: {', '.join(CATALOG)}. "
        "A set of your own is given by a path to a folder, a table (.csv, .jsonl) or a spec (.yaml)."
    )


def expand_targets(names: str | Sequence[str] | None, auxiliary: str | None = None) -> tuple[str, ...]:
    """The names of targets, with the words of `GROUPS` replaced by the datasets that they stand for.

    A group leaves out the dataset `auxiliary` that is trained on, since testing on it would not be zero-shot. Raises
    ConfigError where no dataset is named, or one is named twice.
    """
    given = [names] if isinstance(names, str) else list(names or ())
    if not given or not all(isinstance(name, str) and name for name in given):
        raise ConfigError(
            f"targets is {names!r}; name at least one dataset, such as targets=[mvtec,btad], or one of the groups "
            f"{', '.join(GROUPS)}."
        )
    left_out = None if auxiliary is None else _canonical(auxiliary)
    expanded = [part for name in given for part in GROUPS.get(name, (name,)) if name not in GROUPS or part != left_out]
    known = [_canonical(name) for name in expanded]
    if twice := sorted({name for name in known if known.count(name) > 1}):
        raise ConfigError(f"targets holds {', '.join(twice)} twice; name each dataset once.")
    return tuple(expanded)


def _canonical(name: str) -> str:
    return name if (spec := spec_or_none(name)) is None else spec.name
