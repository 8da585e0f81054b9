"""Read `params.yaml` strictly: every key is known, and every value has its type and lies in its range.

The keys of all stages are checked before any stage starts its work: hours may lie between the first and the last.
"""

import importlib
import reprlib
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
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

_WORDS = {"yes": True, "on": True, "no": False, "off": False, "none": None}  # of YAML 1.1, and of Python

# A few lines of YAML aliases can expand to a list of billions of entries.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 200, 200

# By name, and not a dep of the others: the type of another stage may refuse a value, but changes no output. It imports
# neither numpy nor torch.
_MOST_MISTAKES = 10  # that are told at a time
PARAMS_OF_STAGE = {
    "download": "cocoseg.download.params:DownloadParams",
    "filter": "cocoseg.filter.params:FilterParams",
    "download_images": "cocoseg.download.images_params:DownloadImagesParams",
    "mask": "cocoseg.mask.params:MaskParams",
    "split": "cocoseg.split.params:SplitParams",
    "train": "cocoseg.train.params:TrainParams",
    "evaluate": "cocoseg.evaluate.params:EvaluateParams",
}


Params = TypeVar("Params", bound=msgspec.Struct)


def load_params(params_type: type[Params], path: Path = PARAMS, pipeline: Path = PIPELINE) -> Params:
    """Return the parameters of `params_type`, a frozen struct whose field names are keys of `params.yaml`.

    A type may check its fields against each other in `__post_init__` with `ValueError("key is …; expected …")`, and
    beside those of other stages in a static method `beside(values)` that yields what is wrong.
    Raises `CocosegError` for a file that is not a flat YAML 1.2 mapping, or with a line for each mistake in it: a key
    that no stage of `dvc.yaml` declares, a missing key, and a value of the wrong type or out of range, of this stage or
    of another.
    """
    values, stages = _read_mapping(path), _stages(pipeline)
    unknown = _unknown_keys(values, declared_params(pipeline))
    types: list[type[msgspec.Struct]] = list(dict.fromkeys([params_type, *_types_of(stages)]))
    found = [f"unknown parameter {key}; {hint}" for key, hint in unknown.items()]
    for checked in types:
        found += _mistakes(values, checked, " ".join(unknown.values()))
    for checked in () if found else types:
        found += getattr(checked, "beside", lambda _: ())(values)
    if found := list(dict.fromkeys(found)):
        more = [f"{len(found) - _MOST_MISTAKES} more mistakes"] if len(found) > _MOST_MISTAKES else []
        raise CocosegError("\n".join(f"{path}: {line}" for line in [*found[:_MOST_MISTAKES], *more]))
    return msgspec.convert({name: values[name] for name in params_type.__struct_fields__}, params_type)


_Out = str | dict[str, dict[str, Any]]


class _Stage(msgspec.Struct):
    params: list[Any] = []
    do: "_Stage | None" = None  # of a `foreach`
    outs: list[_Out] = []
    metrics: list[_Out] = []
    plots: list[_Out] = []


class _Pipeline(msgspec.Struct):
    stages: dict[str, _Stage] = {}


def declared_params(pipeline: Path = PIPELINE) -> set[str]:
    """Return the keys of `params.yaml` that any stage of `dvc.yaml` declares."""
    stages = _stages(pipeline).values()
    listed = [entry for stage in stages for part in (stage, stage.do) if part for entry in part.params]
    own = [(entry or {}).get(PARAMS.name) or [] if isinstance(entry, dict) else [entry] for entry in listed]
    # The section of a nested key, such as `report` of `report.title`, may hold what its own stage likes.
    return {str(key).partition(".")[0] for keys in own for key in keys}


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
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise CocosegError(f"{path}: not found; run from the root of the repository") from None
    except RecursionError:
        raise CocosegError(f"{path}: is nested too deeply; expected lines of 'key: value'") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise CocosegError(f"{path}:{line}: is not UTF-8 text; save the file as UTF-8") from None
    except (YAMLError, ValueError) as error:  # ValueError: such as the date 2024-13-45
        where = getattr(error, "problem_mark", None)
        if "could not find expected ':'" in str(error):  # it lies where the line with the mistake ends
            where = getattr(error, "context_mark", None)
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


def _types_of(stages: Mapping[str, _Stage]) -> Iterator[type[msgspec.Struct]]:
    """Yield the parameter types of the stages of `dvc.yaml` that are ours: others may declare what they like."""
    before = set(sys.modules)
    for stage, place in PARAMS_OF_STAGE.items():
        module, _, name = place.partition(":")
        if stage in stages:
            found: type[msgspec.Struct] = getattr(importlib.import_module(module), name)
            if set(found.__struct_fields__) <= set(map(str, stages[stage].params)):
                yield found
    # What stays imported counts as code of this stage, by which an interrupted training is recognized.
    for module in set(sys.modules) - before:
        if module.startswith("cocoseg."):
            del sys.modules[module]


def _unknown_keys(values: Mapping[Any, Any], declared: Collection[str]) -> dict[str, str]:
    """Return each key that no stage declares, as it is shown, and the nearest that one does."""
    known = sorted(declared)
    return {
        key if str(key).isidentifier() else _SHORT.repr(key): did_you_mean(
            str(key), known, "a key of your own belongs under params of its stage in dvc.yaml"
        )
        for key in values
        if key not in declared
    }


def _mistakes(values: Mapping[str, Any], params_type: type[msgspec.Struct], hints: str) -> list[str]:
    """Return what is wrong with the values of a type, in words; those that the `hints` name are not missing."""
    found: list[str] = []
    for field in msgspec.structs.fields(params_type):
        if field.name in values:
            found += _mistake(field.name, values[field.name], field.type)
        elif f"did you mean {field.name}?" not in hints:
            found.append(f"{field.name} is missing; expected {allowed(field.type)}")
    if not found and set(params_type.__struct_fields__) <= set(values):
        try:
            msgspec.convert({name: values[name] for name in params_type.__struct_fields__}, params_type)
        except msgspec.ValidationError as error:
            found.append(str(error))
    return found


def _mistake(key: str, value: Any, type_: Any) -> Iterator[str]:
    try:
        msgspec.convert(value, type_)
    except msgspec.ValidationError:
        near = _meant(value, type_) if isinstance(value, str) else _in_quotes(value, type_)
        hint = f"; {near}" if near else ""
        yield f"{key} is {without_secrets(_shown(value))}; expected {allowed(type_)}{hint}"


def _shown(value: Any) -> str:
    """Return a value as it stands in the file."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else _SHORT.repr(value)


def _meant(text: str, type_: Any) -> str:
    """Return "did you mean …?" for a text that is nearly a value of this type, else nothing."""
    number = text.strip().replace(",", ".").replace("\N{MINUS SIGN}", "-")
    for meant in (_WORDS.get(text.lower(), number), number):
        with suppress(msgspec.ValidationError):
            return f"did you mean {_shown(msgspec.convert(meant, type_, strict=False))}?"
    return did_you_mean(text, _words(inspect.type_info(type_)), "")


def _in_quotes(value: Any, type_: Any) -> str:
    """Return the way out for a list of names of which YAML takes one for a number, true or null; else nothing."""
    if isinstance(value, list) and not any(isinstance(one, list | dict) for one in value):
        with suppress(msgspec.ValidationError):
            msgspec.convert([str(one) for one in value], type_)
            return "put its entries in quotes"
    return ""


def _words(info: inspect.Type) -> list[str]:
    if isinstance(info, inspect.Metadata):
        return (info.extra_json_schema or {}).get("enum") or _words(info.type)
    if isinstance(info, inspect.UnionType):
        return [word for part in info.types for word in _words(part)]
    return [str(value) for value in info.values] if isinstance(info, inspect.LiteralType) else []


def _describe(info: inspect.Type) -> str:
    match info:
        case inspect.Metadata(extra_json_schema={"enum": values}):
            return "one of " + ", ".join(values)
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
