"""Read `params.yaml` strictly: every key is known, and every value has its type and lies in its range."""

import reprlib
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import inspect
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cocoseg.core.errors import CocosegError, did_you_mean
from cocoseg.core.redaction import without_secrets

PARAMS = Path("params.yaml")
PIPELINE = Path("dvc.yaml")

# A few lines of YAML aliases can expand to a list of billions of entries.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 200, 200

Params = TypeVar("Params", bound=msgspec.Struct)


def load_params(params_type: type[Params], path: Path = PARAMS, pipeline: Path = PIPELINE) -> Params:
    """Return the parameters of `params_type`, a frozen struct whose field names are keys of `params.yaml`.

    A type may check its fields against each other in `__post_init__` with `ValueError("key is …; expected …")`.
    Raises `CocosegError` for a file that is not a flat YAML 1.2 mapping, a key that no stage of `dvc.yaml` declares,
    a missing key, and a value of the wrong type or out of range.
    """
    values = _read_mapping(path)
    _refuse_unknown_keys(values, declared_params(pipeline), path)
    for field in msgspec.structs.fields(params_type):
        if field.name not in values:
            raise CocosegError(f"{path}: {field.name} is missing; expected {allowed(field.type)}")
        _check(field.name, values[field.name], field.type, path)
    try:
        return msgspec.convert({name: values[name] for name in params_type.__struct_fields__}, params_type)
    except msgspec.ValidationError as error:
        raise CocosegError(f"{path}: {error}") from None


_Out = str | dict[str, dict[str, Any]]


class _Stage(msgspec.Struct):
    params: list[Any] = []
    outs: list[_Out] = []
    metrics: list[_Out] = []
    plots: list[_Out] = []


class _Pipeline(msgspec.Struct):
    stages: dict[str, _Stage] = {}


def declared_params(pipeline: Path = PIPELINE) -> set[str]:
    """Return the keys of `params.yaml` that any stage of `dvc.yaml` declares."""
    return {key for stage in _stages(pipeline).values() for key in stage.params if isinstance(key, str)}


def declared_outs(stage: str, pipeline: Path = PIPELINE) -> list[Path]:
    """Return the outputs of a stage of `dvc.yaml` that DVC removes before it runs the stage."""
    entry = _stages(pipeline).get(stage, _Stage())
    listed = [*entry.outs, *entry.metrics, *entry.plots]
    settings = {path: more for out in listed for path, more in (out if isinstance(out, dict) else {out: {}}).items()}
    return [Path(path) for path, more in settings.items() if not more.get("persist")]


def allowed(type_: Any) -> str:
    """Return the allowed values of a type in words, such as "a number above 0, such as 0.001"."""
    return _describe(inspect.type_info(type_))


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        # ruamel reads YAML 1.2: 1e-4 is a number and `no` is a string; PyYAML (1.1) reads both the other way around.
        content = YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        raise CocosegError(f"{path}: not found; run from the root of the repository") from None
    except RecursionError:
        raise CocosegError(f"{path}: is nested too deeply; expected lines of 'key: value'") from None
    except (YAMLError, ValueError) as error:  # ValueError: such as the date 2024-13-45
        where = getattr(error, "problem_mark", None)
        place = f"{path}:{where.line + 1}" if where else f"{path}"
        problem = str(getattr(error, "problem", error)).splitlines()[0]
        raise CocosegError(f"{place}: {problem}; expected lines of 'key: value'") from None
    if not isinstance(content, dict):
        raise CocosegError(f"{path}: expected lines of 'key: value', found {type(content).__name__}")
    return content


def _stages(pipeline: Path) -> dict[str, _Stage]:
    try:
        return msgspec.convert(_read_mapping(pipeline), _Pipeline).stages
    except msgspec.ValidationError as error:
        raise CocosegError(f"{pipeline}: {error}; restore it with: git checkout -- {pipeline}") from None


def _refuse_unknown_keys(values: dict[str, Any], declared: set[str], path: Path) -> None:
    for key in values:
        if key not in declared:
            hint = did_you_mean(str(key), sorted(declared), f"known: {', '.join(sorted(declared))}")
            named = key if str(key).isidentifier() else _SHORT.repr(key)
            raise CocosegError(f"{path}: unknown parameter {named}; {hint}")


def _check(key: str, value: Any, type_: Any, path: Path) -> None:
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError:
        near = did_you_mean(value, _words(inspect.type_info(type_)), "") if isinstance(value, str) else ""
        hint = f"; {near}" if near else ""
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else _SHORT.repr(value)
        raise CocosegError(f"{path}: {key} is {without_secrets(shown)}; expected {allowed(type_)}{hint}") from None


def _words(info: inspect.Type) -> list[str]:
    if isinstance(info, inspect.Metadata):
        return _words(info.type)
    if isinstance(info, inspect.UnionType):
        return [word for part in info.types for word in _words(part)]
    return [str(value) for value in info.values] if isinstance(info, inspect.LiteralType) else []


def _describe(info: inspect.Type) -> str:
    match info:
        case inspect.Metadata(type=inner, extra_json_schema=schema):
            examples = (schema or {}).get("examples", [])
            return _describe(inner) + (f", such as {examples[0]}" if examples else "")
        case inspect.UnionType(types=types):
            return " or ".join(_describe(part) for part in types)
        case inspect.NoneType():
            return "null"
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType() | inspect.FloatType():
            return _describe_number(info)
        case inspect.StrType():
            return "a string"
        case inspect.LiteralType(values=values):
            return "one of " + ", ".join(str(value) for value in values)
        case inspect.VarTupleType(item_type=item) | inspect.ListType(item_type=item) | inspect.SetType(item_type=item):
            return f"a list, each entry {_describe(item)}"
        case inspect.TupleType(item_types=items):
            return f"a list of {len(items)}, each {_describe(items[0])}"
        case _:
            return str(info)


def _describe_number(info: inspect.IntType | inspect.FloatType) -> str:
    noun = "a whole number" if isinstance(info, inspect.IntType) else "a number"
    low = f"above {info.gt:g}" if info.gt is not None else f"of at least {info.ge:g}" if info.ge is not None else ""
    high = f"below {info.lt:g}" if info.lt is not None else f"at most {info.le:g}" if info.le is not None else ""
    return " ".join(part for part in (noun, " and ".join(part for part in (low, high) if part)) if part)
