"""run.json, as those read it who did not write it."""

import json
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ValidationError

from cops_lightning.core.errors import CopsError, quoted, told
from cops_lightning.core.files import read_whole

Model = TypeVar("Model", bound=BaseModel)


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
    return read_model(path, _Record, "Remove that run's folder, or do the run again.")[0]


def read_model(path: Path, model: type[Model], way_out: str) -> tuple[dict[str, Any], Model]:
    """The content of a JSON file as it is and as a model of pydantic, whose types it has strictly.

    Raises CopsError where it is none, naming what is wrong, and `way_out`.
    """
    with told(CopsError, f"{path} is no JSON", way_out):
        text = read_whole(path).decode()
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
