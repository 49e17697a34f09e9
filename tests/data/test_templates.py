from pathlib import Path

import pytest

from cops_lightning.core.errors import DatasetError
from cops_lightning.data.readers.layouts import read_folders
from cops_lightning.data.readers.spec import DatasetSpec, Folders
from cops_lightning.data.readers.templates import Template
from cops_lightning.data.readers.tree import Tree


def images(place: str, *files: str) -> list[str]:
    """The files that a template takes for images."""
    folders: dict[str, tuple[str, ...]] = {}
    for file in files:
        folder, _, name = file.rpartition("/")
        folders[folder] = (*folders.get(folder, ()), name)
    reading = read_folders(Tree(Path("set"), folders), Folders("own", (place,)), DatasetSpec("set", ()))
    return [entry.image for entry in reading.entries]


def test_a_template_without_extension_takes_every_image_extension_in_any_case():
    assert images("{stem}", "a.png", "b.JPG", "c.Tiff", "notes.txt", "no_extension") == ["a.png", "b.JPG", "c.Tiff"]


def test_a_template_with_an_extension_takes_that_one_only():
    assert images("scans/{stem}.jpg", "scans/a.jpg", "scans/b.JPG", "scans/c.png") == ["scans/a.jpg", "scans/b.JPG"]


def test_folder_names_match_in_any_case():
    assert images("Ground Truth/{stem}", "ground truth/1.tif") == ["ground truth/1.tif"]


def test_a_field_stays_within_one_folder():
    assert images("{defect}/{stem}", "a/0.png", "a/b/0.png", "0.png") == ["a/0.png"]


def test_a_field_can_be_restricted_to_words_or_digits():
    assert images("{defect:yes|no}/{stem:d}", "yes/1.png", "no/x.png", "maybe/2.png") == ["yes/1.png"]


def test_a_field_that_occurs_twice_has_one_value():
    assert images("{category}/{category}_{stem}", "nut/nut_1.png", "nut/bolt_1.png") == ["nut/nut_1.png"]


def test_a_star_stands_for_any_one_folder():
    assert images("{*}/{stem}", "a/0.png", "b/0.png", "0.png") == ["a/0.png", "b/0.png"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{category}/{colour}/{stem}", r"unknown field \{colour\}"),
        ("{category}/{defect}", r"does not name the file by \{stem\}"),
        ("{stem}/image.png", r"does not name the file by \{stem\}"),
        ("{stem", r"does not name the file by \{stem\}"),
    ],
)
def test_a_text_that_is_no_template_is_refused_with_the_reason(text: str, reason: str):
    with pytest.raises(DatasetError, match=reason):
        Template(text)
