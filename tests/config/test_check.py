"""Every key of a configuration is checked against the class that it is for, before anything is built."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Lt

from cops_lightning.config.check import check, check_node
from cops_lightning.core.errors import ConfigError

HERE = __name__


class Engine:
    """A component with arguments of the usual kinds."""

    def __init__(
        self,
        rate: float,
        kind: Literal["fast", "exact"] = "fast",
        steps: Annotated[int, Ge(1)] = 3,
        momentum: Annotated[float, Ge(0), Lt(1)] = 0.9,
        betas: tuple[float, float] = (0.5, 0.9),
        name: str | None = None,
        part: "Part | None" = None,
    ) -> None: ...


@dataclass
class Part:
    """A component within another."""

    size: int = 1


class Finer(Part):
    """A kind of that component."""


class Open:
    """A component that takes anything."""

    def __init__(self, **options: Any) -> None: ...


class Spelt:
    """A component that takes what another function takes, and says so."""

    def __init__(self, **options: Any) -> None: ...


class Passing(Engine):
    """A component that passes further arguments on."""

    def __init__(self, size: int = 1, **options: Any) -> None:
        super().__init__(**options)


class Using(Engine):
    """A component that makes something else of further arguments."""

    def __init__(self, **options: Any) -> None:
        super().__init__(rate=len(options))


@dataclass
class Top:
    """Keys at the top."""

    seed: int = 0
    engine: dict[str, Any] = field(default_factory=dict)


def node(**given: Any) -> dict[str, Any]:
    return {"engine": {"_target_": f"{HERE}.Engine", "rate": 0.1, **given}}


def sentence(config: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as found:
        check(config, Top)
    return str(found.value)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"rate": 1},  # a whole number where a real one is expected
        {"betas": [0.1, 0.2]},  # YAML has lists, not tuples
        {"name": None},
        {"kind": "exact", "steps": 1, "momentum": 0.0},
        {"part": {"_target_": f"{HERE}.Part", "size": 2}},
        {"part": None},
    ],
)
def test_what_a_class_takes_passes(given):
    check(node(**given), Top)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"stepz": 3}, "engine.stepz is no setting of .*Engine. Did you mean 'engine.steps'?"),
        ({"qqq": 3}, "engine.qqq is no setting of .*It takes rate, kind, steps"),
        ({"rate": "quick"}, "engine.rate is 'quick'.*expected a valid number"),
        ({"kind": "exakt"}, "engine.kind is 'exakt'.*expected 'fast' or 'exact'. Did you mean 'exact'?"),
        ({"steps": 0}, "engine.steps is 0.*expected greater than or equal to 1"),
        ({"steps": 1.5}, "engine.steps is 1.5.*expected a valid integer"),
        ({"steps": True}, "engine.steps is True.*expected a valid integer"),
        ({"momentum": 1.0}, "engine.momentum is 1.0.*expected less than 1"),
        ({"betas": [0.1]}, "engine.betas is"),
        ({"part": {"_target_": f"{HERE}.Part", "sise": 2}}, "engine.part.sise is no setting.*'engine.part.size'?"),
        ({"part": {"_target_": f"{HERE}.Prat"}}, "engine.part._target_ is '.*Prat', which cannot be imported"),
        ({"part": {"_target_": "no.such.thing"}}, "cannot be imported .*no"),
    ],
)
def test_what_it_does_not_take_is_said_with_its_key_and_the_nearest_known_one(given, said):
    import re

    assert re.search(said, sentence(node(**given)))


@pytest.mark.parametrize(("target", "fits"), [("Part", True), ("Finer", True), ("Open", False)])
def test_a_part_is_of_the_class_that_the_component_takes_or_refused(target, fits):
    node = {"_target_": f"{HERE}.Engine", "rate": 1.0, "part": {"_target_": f"{HERE}.{target}"}}
    if fits:
        check_node("engine", node)
    else:
        with pytest.raises(
            ConfigError, match=rf"engine.part is a {HERE}.Open, which .*Engine does not take.*{HERE}.Part"
        ):
            check_node("engine", node)


def test_keys_at_the_top_are_checked_like_any_other():
    assert "seeed is no setting of" in sentence({"seeed": 1})
    assert "Did you mean 'seed'?" in sentence({"seeed": 1})
    assert "seed is 'x'" in sentence({"seed": "x"})


def test_what_a_class_needs_must_be_given_unless_it_is_called_later():
    config = {"engine": {"_target_": f"{HERE}.Engine"}}
    assert "engine.rate has no value" in sentence(config)
    check({"engine": {**config["engine"], "_partial_": True}}, Top)


def test_a_class_that_takes_anything_is_given_anything():
    check({"engine": {"_target_": f"{HERE}.Open", "whatever": [1, {"a": None}]}}, Top)


def test_a_class_that_passes_arguments_on_takes_those_of_its_base():
    at = {"_target_": f"{HERE}.Passing"}
    check({"engine": {**at, "rate": 1.0, "size": 2}}, Top)
    assert "engine.sise is no setting of" in sentence({"engine": {**at, "rate": 1.0, "sise": 2}})
    assert "Did you mean 'engine.momentum'?" in sentence({"engine": {**at, "rate": 1.0, "momentun": 0.5}})
    assert "engine.steps is 0" in sentence({"engine": {**at, "rate": 1.0, "steps": 0}})
    assert "engine.rate has no value" in sentence({"engine": at})
    check({"engine": {"_target_": f"{HERE}.Using", "whatever": 1}}, Top)


def test_a_class_may_state_the_arguments_that_it_passes_on(monkeypatch):
    import inspect

    monkeypatch.setattr(Spelt, "__signature__", inspect.signature(Engine), raising=False)
    check({"engine": {"_target_": f"{HERE}.Spelt", "rate": 1.0}}, Top)
    assert "engine.rat is no setting" in sentence({"engine": {"_target_": f"{HERE}.Spelt", "rat": 1.0, "rate": 1.0}})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"max_step": 3}, "trainer.max_step is no setting of lightning.Trainer. Did you mean 'trainer.max_steps'?"),
        ({"max_steps": "many"}, "trainer.max_steps is 'many'"),
        ({"callbacks": []}, "trainer.callbacks is set, yet the group callbacks decides it"),
    ],
)
def test_all_arguments_of_lightnings_trainer_are_known(given, said):
    @dataclass
    class WithTrainer:
        trainer: dict[str, Any]

    target = {"_target_": "lightning.pytorch.trainer.trainer.Trainer"}
    check({"trainer": {**target, "max_steps": 20, "gradient_clip_val": 1, "devices": "auto"}}, WithTrainer)
    with pytest.raises(ConfigError, match=said):
        check({"trainer": {**target, **given}}, WithTrainer)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"dta": "/x"}, r"paths\.dta is no setting of paths\. Did you mean 'paths\.data'\?"),
        ({"data": 3}, r"paths\.data is 3, which paths does not take; expected a valid string"),
    ],
)
def test_paths_are_checked_like_the_arguments_of_a_class(given, said):
    with pytest.raises(ConfigError, match=said):
        check({"paths": given}, WithPaths)


@dataclass
class WithPaths:
    """Keys at the top with paths among them."""

    paths: dict[str, Any] = field(default_factory=dict)
