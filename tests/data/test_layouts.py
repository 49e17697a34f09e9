"""Every way in which the published sets are found on disks, in small: a few files per layout."""

from pathlib import Path

import pytest

from cops_lightning.data.readers.resolve import load_index
from data.conftest import MakeTree

# What is planted, the dataset, the layout that is printed, and the (normal, anomalous) test images by category.
LAYOUTS = {
    "mvtec, categories nested in themselves as on Kaggle": (
        ["bottle/bottle/train/good/000.png", "bottle/bottle/test/good/000.png", "bottle/bottle/test/crack/000.png",
         "bottle/bottle/ground_truth/crack/000_mask.png"],
        "mvtec", "category folders, each nested in itself", {"bottle": (1, 1)},
    ),
    "mvtec, renamed to one defect folder as by Bayes-PFL": (
        ["bottle/train/good/mvtec_000000.bmp", "bottle/test/good/mvtec_good_000272.bmp",
         "bottle/test/anomaly/mvtec_broken_large_000209.bmp",
         "bottle/ground_truth/anomaly/mvtec_broken_large_000209.png"],
        "mvtec", "category folders", {"bottle": (1, 1)},
    ),
    "visa, as anomalib writes it": (
        ["visa_pytorch/candle/train/good/0000.JPG", "visa_pytorch/candle/test/good/0011.JPG",
         "visa_pytorch/candle/test/bad/000.JPG", "visa_pytorch/candle/ground_truth/bad/000.png"],
        "visa", "category folders", {"candle": (1, 1)},
    ),
    "visa, as spot-diff writes it": (
        ["VisA_pytorch/1cls/pcb1/train/good/0000.JPG", "VisA_pytorch/1cls/pcb1/test/good/0011.JPG",
         "VisA_pytorch/1cls/pcb1/test/bad/000.JPG", "VisA_pytorch/1cls/pcb1/ground_truth/bad/000.png"],
        "visa", "category folders", {"pcb1": (1, 1)},
    ),
    "btad, unzipped, three kinds of masks": (
        ["BTech_Dataset_transformed/01/test/ok/0000.bmp", "BTech_Dataset_transformed/01/test/ko/0000.bmp",
         "BTech_Dataset_transformed/01/ground_truth/ko/0000.png", "BTech_Dataset_transformed/02/test/ko/0000.png",
         "BTech_Dataset_transformed/02/ground_truth/ko/0000.png", "BTech_Dataset_transformed/03/test/ko/0000.bmp",
         "BTech_Dataset_transformed/03/ground_truth/ko/0000.bmp", "BTech_Dataset_transformed/README.txt"],
        "btad", "category folders", {"01": (1, 1), "02": (0, 1), "03": (0, 1)},
    ),
    "btad, with the product names of Bayes-PFL": (
        ["metal1/test/good/a.bmp", "wood/test/anomaly/b.bmp", "wood/ground_truth/anomaly/b.png",
         "metal2/test/good/c.bmp"],
        "btad", "category folders", {"01": (1, 0), "02": (0, 1), "03": (1, 0)},
    ),
    "dtd_synthetic, with the texture names of Bayes-PFL": (
        ["woven4/test/good/x.bmp", "woven4/test/anomaly/y.bmp", "woven4/ground_truth/anomaly/y.png"],
        "dtd_synthetic", "category folders", {"Woven_068": (1, 1)},
    ),
    "headct, as AdaCLIP has it": (
        ["HeadCT_anomaly_detection/headct/test/good/100.png", "HeadCT_anomaly_detection/headct/test/defect/000.png"],
        "headct", "curated, split folders", {"brain": (1, 1)},
    ),
    "headct, as Bayes-PFL downloads it": (
        ["object/test/good/100.png", "object/test/defect/000.png"],
        "headct", "curated, one category folder", {"brain": (1, 1)},
    ),
    "brainmri, with a space in its category folder": (
        ["brain ct/test/good/a.bmp", "brain ct/test/anomaly/b.bmp"],
        "brainmri", "curated, one category folder", {"brain": (1, 1)},
    ),
    "brainmri, as AdaCLIP has it": (
        ["brain_mri/test/good/1 no.jpeg", "brain_mri/test/defect/Y100.JPG"],
        "brainmri", "curated, split folders", {"brain": (1, 1)},
    ),
    "br35h, with the unlabelled and the detection images of its archive": (
        ["no/no0.jpg", "no/No12.jpg", "yes/y0.jpg", "pred/pred0.jpg", "Br35H-Mask-RCNN/TRAIN/y0.jpg",
         "Br35H-Mask-RCNN/TRAIN/annotations_train.json"],
        "br35h", "class folders no and yes", {"brain": (2, 1)},
    ),
    "br35h, as AdaCLIP has it": (
        ["Br35h_anomaly_detection/br35h/test/good/no0.jpg", "Br35h_anomaly_detection/br35h/test/defect/y0.jpg"],
        "br35h", "curated, split folders", {"brain": (1, 1)},
    ),
    "isic, the publisher's, with the training part beside it": (
        ["ISBI2016_ISIC_Part1_Test_Data/ISIC_0000003.jpg",
         "ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_0000003_Segmentation.png",
         "ISBI2016_ISIC_Part1_Training_Data/ISIC_0000000.jpg",
         "ISBI2016_ISIC_Part1_Training_GroundTruth/ISIC_0000000_Segmentation.png"],
        "isic", "publisher, ISBI 2016 part 1", {"skin": (0, 1)},
    ),
    "isic, as the scripts of CoPS want it": (
        ["ISBI/skin/test/bad/ISIC_0000003.jpg",
         "ISBI/skin/ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_0000003_Segmentation.png"],
        "isic", "curated, skin/test and the publisher's masks", {"skin": (0, 1)},
    ),
    "isic, as AdaCLIP has it": (
        ["ISIC/isic/test/defect/ISIC_0000003.jpg", "ISIC/isic/ground_truth/defect/ISIC_0000003_Segmentation.png"],
        "isic", "curated, split folders", {"skin": (0, 1)},
    ),
    "colondb, the 300 frames as bmp": (
        ["CVC-ColonDB/1.bmp", "CVC-ColonDB/p1.bmp", "CVC-ColonDB/s1.bmp", "CVC-ColonDB/c1.bmp"],
        "colondb", "publisher, one flat folder", {"colon": (0, 1)},
    ),
    "colondb, where some images end in .tif and all masks in .tiff": (
        ["CVC-ColonDB/76.tiff", "CVC-ColonDB/p76.tiff", "CVC-ColonDB/cp76.tiff",
         "CVC-ColonDB/77.tif", "CVC-ColonDB/p77.tiff", "CVC-ColonDB/cp77.tiff"],
        "colondb", "publisher, one flat folder", {"colon": (0, 2)},
    ),
    "colondb, as PraNet's test data": (
        ["TestDataset/CVC-ColonDB/images/1.png", "TestDataset/CVC-ColonDB/masks/1.png",
         "TestDataset/Kvasir/images/2.png", "TestDataset/Kvasir/masks/2.png"],
        "colondb", "images and masks", {"colon": (0, 1)},
    ),
    "colondb, as AdaCLIP has it": (
        ["CVC-ColonDB/ColonDB/test/defect/1.png", "CVC-ColonDB/ColonDB/ground_truth/defect/1.png"],
        "colondb", "curated, split folders", {"colon": (0, 1)},
    ),
    "clinicdb, with an underscore for the space": (
        ["CVC-ClinicDB/Original/1.tif", "CVC-ClinicDB/Ground_Truth/1.tif"],
        "clinicdb", "publisher, Original and Ground Truth", {"colon": (0, 1)},
    ),
    "clinicdb, twice, as on Kaggle": (
        ["PNG/Original/1.png", "PNG/Ground Truth/1.png", "TIF/Original/1.tif", "TIF/Ground Truth/1.tif",
         "metadata.csv"],
        "clinicdb", "publisher, Original and Ground Truth", {"colon": (0, 1)},
    ),
    "clinicdb, as AdaCLIP has it": (
        ["ClinicDB/test/defect/1.tif", "ClinicDB/ground_truth/defect/1.tif"],
        "clinicdb", "curated, split folders", {"colon": (0, 1)},
    ),
    "kvasir, from figshare's Polyp_DataSet": (
        ["Polyp_DataSet/Kvasir/images/cju0.png", "Polyp_DataSet/Kvasir/masks/cju0.png",
         "Polyp_DataSet/CVC-ColonDB/images/1.png", "Polyp_DataSet/CVC-ColonDB/masks/1.png"],
        "kvasir", "images and masks", {"colon": (0, 1)},
    ),
    "endo, unzipped": (
        ["EndoTect_2020_Segmentation_Test_Dataset/images/0a-1.jpg",
         "EndoTect_2020_Segmentation_Test_Dataset/masks/0a-1.png"],
        "endo", "images and masks", {"colon": (0, 1)},
    ),
    "endo, with species folders as in the scripts of CoPS": (
        ["polyp/0a-1.jpg", "masks/0a-1.png"],
        "endo", "species folders and masks", {"colon": (0, 1)},
    ),
    "endo, as AdaCLIP has it": (
        ["EndoTect/endo/test/defect/0a-1.jpg", "EndoTect/endo/ground_truth/defect/0a-1.png"],
        "endo", "curated, split folders", {"colon": (0, 1)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LAYOUTS, ids=list(LAYOUTS))
def test_a_known_layout_is_recognised(make_tree: MakeTree, case: str):
    places, dataset, layout, counts = LAYOUTS[case]
    index = load_index(dataset, make_tree(*places))
    assert index.layout == layout
    assert {category: splits["test"] for category, splits in index.counts().items()} == counts
    assert all((sample.mask is not None) == (sample.anomalous and index.has_masks) for sample in index.test)
    assert [note for note in index.notes if not note.startswith("This is not all of ")] == []


@pytest.mark.parametrize("case", LAYOUTS, ids=list(LAYOUTS))
def test_stray_files_and_the_case_of_extensions_change_nothing(make_tree: MakeTree, case: str):
    places, dataset, layout, counts = LAYOUTS[case]
    folders = {str(Path(place).parent) for place in places} | {"."}
    stray = [f"{folder}/{name}" for folder in folders for name in (".DS_Store", "Thumbs.db", "._x.png", "notes.txt")]
    shouted = [str(Path(place).with_suffix(Path(place).suffix.upper())) for place in places]
    root = make_tree(*shouted, *stray, "__MACOSX/bottle/test/good/000.png")
    (root / "meta.json").write_text('{"train": {}, "test": {}}')
    index = load_index(dataset, root)
    assert index.layout == layout
    assert {category: splits["test"] for category, splits in index.counts().items()} == counts


def test_a_data_root_holds_many_datasets_under_their_usual_names(make_tree: MakeTree):
    data_root = make_tree(
        "mvtec_anomaly_detection/bottle/test/good/000.png",
        "BTech_Dataset_transformed/01/test/ok/0000.bmp",
        "Br35H/no/no0.jpg",
        "BrainMRI/brain_tumor_dataset/no/1 no.jpeg",
    )
    roots = {name: load_index(name, data_root).root for name in ("mvtec", "btad", "br35h", "brainmri")}
    assert roots["mvtec"] == data_root / "mvtec_anomaly_detection"
    assert roots["btad"] == data_root / "BTech_Dataset_transformed"
    assert roots["br35h"] == data_root / "Br35H"
    assert roots["brainmri"] == data_root / "BrainMRI" / "brain_tumor_dataset"


def test_a_path_that_is_given_goes_before_the_one_of_the_environment(
    make_tree: MakeTree, monkeypatch: pytest.MonkeyPatch
):
    here = make_tree("mvtec/bottle/test/good/000.png", root="here")
    there = make_tree("bottle/test/good/000.png", "bottle/test/good/001.png", root="there")
    monkeypatch.setenv("COPS_DATA_ROOT", str(here))
    assert len(load_index("mvtec").test) == 1
    assert len(load_index("mvtec", there).test) == 2


def test_a_dataset_of_one_category_is_not_found_in_a_folder_of_many(make_tree: MakeTree):
    mvtec = make_tree("bottle/test/good/000.png", "cable/test/good/000.png")
    with pytest.raises(Exception, match="headct"):
        load_index("headct", mvtec)


def test_samples_are_named_independently_of_where_the_dataset_lies(make_tree: MakeTree):
    places = ["cable/test/good/000.png", "bottle/test/good/000.png", "bottle/train/good/007.png"]
    one, other = load_index("mvtec", make_tree(*places, root="one")), load_index("mvtec", make_tree(*places, root="b"))
    assert [sample.key for sample in one.test] == [
        "mvtec/bottle/bottle/test/good/000.png",
        "mvtec/cable/cable/test/good/000.png",
    ]
    assert [sample.key for sample in one.test] == [sample.key for sample in other.test]
    assert one.fingerprint() == other.fingerprint()


def test_the_fingerprint_tells_other_names_sizes_and_labels_apart(make_tree: MakeTree):
    reference = load_index(make_tree("test/good/0.png", "test/bad/1.png", root="same/set")).fingerprint()
    renamed = load_index(make_tree("test/good/0.png", "test/bad/2.png", root="renamed/set")).fingerprint()
    relabelled = load_index(make_tree("test/good/1.png", "test/bad/0.png", root="relabelled/set")).fingerprint()
    resized_root = make_tree("test/good/0.png", "test/bad/1.png", root="resized/set")
    with (resized_root / "test/good/0.png").open("ab") as file:
        file.write(b"\0")
    assert len({reference, renamed, relabelled, load_index(resized_root).fingerprint()}) == 4


def test_an_image_in_no_known_place_is_noted(make_tree: MakeTree):
    index = load_index("mvtec", make_tree("bottle/test/good/000.png", "bottel/test/good/000.png"))
    assert index.categories == ("bottle",)
    incomplete, note = index.notes
    assert incomplete.startswith("This is not all of MVTec-AD: 1 of 1725 test images, none of cable,")
    assert note == "Image files in no place of this layout, left out: 1 (1 in bottel/test/good)."


def test_categories_can_be_selected_by_name(make_tree: MakeTree):
    index = load_index("mvtec", make_tree("bottle/test/good/000.png", "cable/test/good/000.png"))
    assert index.only(["cable"]).categories == ("cable",)
    with pytest.raises(Exception, match="mvtec has no category 'cabel'. Did you mean 'cable'\\? It has: bottle, cable"):
        index.only(["cabel"])
