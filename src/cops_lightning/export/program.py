"""A .pt2 archive of torch.export, read as data and computed by operations that are listed here.

`torch.export.load` is not called: it unpickles example inputs, constants and weights where an archive says so,
evaluates its expressions, and finds its operators by name in all of torch, `torch.hub.load` and `torch.os.system`
included. Here an archive gives JSON, numbers, and names of operations.
"""

import json
import operator
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from cops_lightning.core.errors import excerpt
from cops_lightning.export.description import KEY

MAJOR = 8  # version of torch's schema of archives
BYTES = 1  # the number of uint8 among the types of that schema
TYPES = {
    BYTES: torch.uint8,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
# What exported detectors consist of. None of these reads a file, or anything but its arguments.
_ATEN = """
    add.Tensor add_.Tensor amax.default amin.default avg_pool2d.default cat.default chunk.default clone.default
    conv2d.default detach.default div.Tensor einsum.default expand.default flatten.using_ints flip.default gelu.default
    gt.Scalar layer_norm.default linalg_vector_norm.default linear.default mT.default matmul.default mean.dim mul.Tensor
    numpy_T.default ones.default permute.default relu.default repeat_interleave.self_int reshape.default rsub.Scalar
    scaled_dot_product_attention.default select.int sigmoid.default silu.default slice.Tensor softmax.int
    split_with_sizes.default stack.default sub.Tensor sum.dim_IntList sym_size.int to.dtype to.dtype_layout
    transpose.int tril.default unbind.int unsqueeze.default upsample_bilinear2d.vec view.default where.ScalarOther
    """
ATEN = frozenset(_ATEN.split())
SKIPPED = "torch.ops.aten._assert_tensor_metadata.default"  # of a trace, about types that the graph fixes
_PREFIX = "torch.ops.aten."


class Name(NamedTuple):
    """A value of the graph: an input, a weight, or what an earlier step gave."""

    text: str


class Step(NamedTuple):
    """An operation, its arguments, what its results are called, and the values that nothing reads after it."""

    run: Callable[..., Any]
    args: list[Any]
    kwargs: dict[str, Any]
    results: list[str]
    several: bool
    spent: list[str]


class Signature(NamedTuple):
    """Name, type and size of the graph's input without the number of images, and how many axes each output has."""

    input: tuple[str, int, tuple[int, ...]]
    outputs: list[int]


class Program:
    """The graph of an archive that torch.export.save wrote.

    Raises ValueError, and whatever else reading does, for an archive that is damaged, or asks for something that is not
    listed here.

    Args:
        path: the archive.
    """

    def __init__(self, path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            stored = archive.infolist()
            if any(one.compress_type != zipfile.ZIP_STORED for one in stored) or (
                sum(one.file_size for one in stored) > path.stat().st_size
            ):
                raise ValueError("it unfolds to more than it has bytes")
            (root,) = {one.filename.partition("/")[0] for one in stored}
            read: Callable[[str], bytes] = lambda name: archive.read(f"{root}/{name}")  # noqa: E731
            model = json.loads(read("models/model.json"))
            if model["schema_version"]["major"] != MAJOR:
                raise ValueError(
                    f"it is of version {excerpt(model['schema_version'], 40)} of torch's schema, not {MAJOR}"
                )
            self.description = read(f"extra/{KEY}.json").decode()
            weights = {
                name: tensor for folder in ("weights", "constants") for name, tensor in _tensors(read, folder).items()
            }
        module = model["graph_module"]
        graph = module["graph"]
        self._input, self._weights = _bound(module["signature"]["input_specs"], weights)
        self._outputs = [output["as_tensor"]["name"] for output in graph["outputs"]]
        self._steps = _steps(graph["nodes"], {*self._outputs, *self._weights})
        sizes = {name: of["sizes"] for name, of in graph["tensor_values"].items()}
        side = tuple(size["as_int"] for size in sizes[self._input][1:])
        kind = graph["tensor_values"][self._input]["dtype"]
        self.signature = Signature((self._input, kind, side), [len(sizes[name]) for name in self._outputs])

    @torch.no_grad()
    def __call__(self, given: Tensor) -> list[Tensor]:
        """The graph's outputs."""
        values: dict[str, Any] = {**self._weights, self._input: given}
        for step in self._steps:
            given_args = [_valued(one, values) for one in step.args]
            found = step.run(*given_args, **{name: _valued(one, values) for name, one in step.kwargs.items()})
            values.update(zip(step.results, found if step.several else (found,), strict=True))
            for name in step.spent:
                del values[name]
        return [values[name] for name in self._outputs]


def _tensors(read: Callable[[str], bytes], folder: str) -> dict[str, Tensor]:
    """The tensors in a folder of the archive: plain bytes, with type, size and strides beside them."""
    found, loaded = {}, dict[str, Tensor]()
    for name, about in json.loads(read(f"data/{folder}/model_{folder}_config.json"))["config"].items():
        file, meta = about["path_name"], about["tensor_meta"]
        if about["use_pickle"] or meta is None:
            raise ValueError(f"{excerpt(name, 80)} is a pickle, and only tensors are read")
        if file not in loaded:
            content = bytearray(read(f"data/{folder}/{file}"))
            loaded[file] = torch.frombuffer(content, dtype=_type(meta["dtype"]))
        size, strides = ([axis["as_int"] for axis in meta[key]] for key in ("sizes", "strides"))
        found[name] = loaded[file].as_strided(size, strides, meta["storage_offset"]["as_int"])
    return found


def _bound(specs: list[Mapping[str, Any]], weights: Mapping[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """The name of the one input, and the weights by their names in the graph."""
    inputs, named = [], {}
    for spec in specs:
        ((kind, about),) = spec.items()
        if kind == "user_input":
            inputs.append(about["arg"]["as_tensor"]["name"])
        else:
            named[about["arg"]["name"]] = weights[about[f"{kind}_name"]]
    (name,) = inputs
    return name, named


def _steps(nodes: list[Mapping[str, Any]], kept: set[str]) -> list[Step]:
    """The steps of a graph, in which values are let go once nothing reads them, but for those that are kept."""
    steps, seen = [], set(kept)
    for node in reversed([node for node in nodes if node["target"] != SKIPPED]):
        args = [_argument(one["arg"]) for one in node["inputs"] if one["kind"] == 1]
        kwargs = {one["name"]: _argument(one["arg"]) for one in node["inputs"] if one["kind"] != 1}
        results, several = _results(node["outputs"])
        used = {one.text for value in (*args, *kwargs.values()) for one in _listed(value) if isinstance(one, Name)}
        spent = sorted({*used, *results} - seen)
        seen |= used
        steps.append(Step(_operation(node["target"]), args, kwargs, results, several, spent))
    return steps[::-1]


def _operation(target: str) -> Callable[..., Any]:
    if target == "_operator.mul":  # of numbers of images
        return operator.mul
    name = target.removeprefix(_PREFIX)
    if not target.startswith(_PREFIX) or name not in ATEN:
        raise ValueError(f"it asks for the operation {excerpt(target, 80)}, which no exported detector has")
    packet, _, overload = name.partition(".")
    found: Callable[..., Any] = getattr(getattr(torch.ops.aten, packet), overload)
    return found


def _argument(given: Mapping[str, Any]) -> Any:
    """An argument as the schema writes it: what kind it is, and its value."""
    ((kind, value),) = given.items()
    match kind:
        case "as_tensor":
            return Name(value["name"])
        case "as_tensors":
            return [Name(one["name"]) for one in value]
        case "as_sym_int":
            return _number(value)
        case "as_sym_ints":
            return [_number(one) for one in value]
        case "as_int" | "as_bool" | "as_string" | "as_ints" | "as_bools":
            return value
        case "as_float":
            return float(value)  # infinity is written as a word
        case "as_floats":
            return list(map(float, value))
        case "as_none" | "as_layout" | "as_device":  # of which there is one here
            return None
        case "as_scalar_type":
            return _type(value)
    raise ValueError(f"it holds {excerpt(kind, 80)}, which no exported detector has")


def _type(number: int) -> torch.dtype:
    if number not in TYPES:
        raise ValueError(f"it holds numbers of type {excerpt(number, 40)}, which no exported detector has")
    return TYPES[number]


def _number(given: Mapping[str, Any]) -> Any:
    return given["as_int"] if "as_int" in given else Name(given["as_name"])


def _results(outputs: list[Mapping[str, Any]]) -> tuple[list[str], bool]:
    """The names of what an operation gives, and whether it gives several."""
    (output,) = outputs
    ((kind, value),) = output.items()
    if kind == "as_tensors":
        return [one["name"] for one in value], True
    return [value["as_name" if kind == "as_sym_int" else "name"]], False


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _valued(given: Any, values: Mapping[str, Any]) -> Any:
    """An argument with the values of its names."""
    if isinstance(given, Name):
        return values[given.text]
    if isinstance(given, list):
        return [_valued(one, values) for one in given]
    return given
