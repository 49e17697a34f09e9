"""run.json, as those read it who did not write it."""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ValidationError

from cops_lightning.core.errors import CopsError, quoted, told
from cops_lightning.core.files import read_whole

Model = TypeVar("Model", bound=BaseModel)


AGAIN = "Remove that run's folder, or do the run again."


class _Backbone(BaseModel):
    name: str = ""
    origin: str = ""
    fingerprint: str = ""


class _Dataset(BaseModel):
    role: str = ""
    name: str = ""
    root: str = ""
    fingerprint: str = ""


class _MethodSettings(BaseModel):
    data: dict[str, Any] | None = None


class _Record(BaseModel):
    run_id: str = ""
    key: str | None = None
    attempts: int = 1
    results_sha256: str | None = None
    method: str = ""
    study: str = ""
    variant: str = ""
    seed: int = 0
    auxiliary: str = ""
    status: str = ""
    started: Annotated[str, AfterValidator(datetime.fromisoformat)] | None = None
    duration_seconds: float | None = None
    error: str | None = None
    config: dict[str, Any] = {}
    method_settings: _MethodSettings | None = None
    backbone: _Backbone | None = None
    data: list[_Dataset] | None = None


def read_record(path: Path) -> dict[str, Any]:
    """The content of a run.json; any key may be missing. Raises CopsError where it is none, naming what is wrong."""
    with told(CopsError, f"{path} cannot be read", AGAIN):
        text = read_whole(path)
    return record_in(text, path)


def record_in(text: bytes, path: Path) -> dict[str, Any]:
    """The same of what a file holds that is read already."""
    return _parsed(text, path, _Record, AGAIN)[0]


def read_model(path: Path, model: type[Model], way_out: str) -> tuple[dict[str, Any], Model]:
    """The content of a JSON file as it is and as a model of pydantic, whose types it has strictly.

    Raises CopsError where it is none, naming what is wrong, and `way_out`.
    """
    with told(CopsError, f"{path} cannot be read", way_out):
        text = read_whole(path)
    return _parsed(text, path, model, way_out)


def _parsed(encoded: bytes, path: Path, model: type[Model], way_out: str) -> tuple[dict[str, Any], Model]:
    with told(CopsError, f"{path} is no JSON", way_out):
        text = encoded.decode()
        content: dict[str, Any] = json.loads(text)
    try:
        return content, model.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        expected = first["msg"].removeprefix("Input should be ")
        raise CopsError(
            f"{path} is not what a run writes: {where} is {quoted(first['input'])}; expected {expected}. {way_out}"
        ) from None
