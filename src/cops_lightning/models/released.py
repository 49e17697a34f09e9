"""Whose released checkpoint a file is: every method has a format of its own, beside its model."""

import importlib
from collections.abc import Mapping
from typing import Any

from cops_lightning.core.tensor_files import names_of

# Names of methods by their folders, which are also their options in conf/model.
METHODS = {"cops": "CoPS", "anomalyclip": "AnomalyCLIP", "bayes_pfl": "BayesPFL", "adaclip": "AdaCLIP"}


def method_of(content: Mapping[str, Any]) -> str | None:
    """The folder of the method whose released checkpoint has this content, None where there is none."""
    formats = {name: importlib.import_module(f"{__package__}.{name}.released_format") for name in METHODS}
    return next((name for name, format in formats.items() if format.recognise(content) is not None), None)


def describe(content: Mapping[str, Any]) -> str:
    """What a file holds, for an error: whose released checkpoint, or else its top-level keys."""
    method = method_of(content)
    if method is not None:
        return f"is a released checkpoint of {METHODS[method]}"
    return f"has the top-level keys {names_of(content)}"
