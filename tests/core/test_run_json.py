import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.studies import write_run
from cops_lightning.core.errors import CopsError
from cops_lightning.core.record import read_record
from cops_lightning.loggers import RunInfo
from cops_lightning.report.collect import collect

OTHERS = ("x", 5, -1.5, None, True, [], ["a", 1], {}, {"a": {"b": 1}})


def places(content: Any, above: tuple = ()) -> Iterator[tuple]:
    """The path of every value in plain content."""
    for key, value in content.items() if isinstance(content, dict) else enumerate(content):
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from places(value, (*above, key))


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """The run.json of a run, beside that of another one."""
    for name in ("other", "run"):
        path = write_run(tmp_path / name, {"tiles": 0.8}, settings={"data": {"limit": None}}) / "run.json"
        found = [{"role": role, "name": role, "root": "/", "fingerprint": "f"} for role in ("auxiliary", "target")]
        more = {"study": "s", "variant": "cops", "seed": 0, "auxiliary": "visa", "duration_seconds": 1.0}
        path.write_text(json.dumps(json.loads(path.read_text()) | more | {"config": {}, "data": found}))
    return path


def complaint(record: Path) -> str:
    """What is said of a run.json by those who read it; nothing where it is used."""
    try:
        RunInfo.of(record.parent, read_record(record))
        collect([record.parent.parent])
    except CopsError as error:
        return str(error)
    return ""


def test_whatever_type_a_value_has_the_record_is_used_or_named_in_one_sentence(record):
    whole, draw = record.read_text(), random.Random(0)
    assert read_record(record) == json.loads(whole)
    complaints = []
    for place in places(json.loads(whole)):
        content = json.loads(whole)
        within = content
        for key in place[:-1]:
            within = within[key]
        within[place[-1]] = draw.choice(OTHERS)
        record.write_text(json.dumps(content))
        if said := complaint(record):
            complaints.append(said)
            assert said.startswith(f"{record} is not what a run writes: {'.'.join(map(str, place))}")
            assert "\n" not in said
    assert len(complaints) > 10


@pytest.mark.parametrize("damage", [b"{", b"\xff", b"", b"[1]", b"3", b"[" * 10**5])
def test_what_is_no_record_is_one_sentence(damage, record):
    record.write_bytes(damage)
    with pytest.raises(CopsError, match=r"run\.json is (no JSON|not what a run writes).*do the run again"):
        read_record(record)
