"""What a sweep varies: `seed=0,1,2` is a grid, `lr=loguniform(1e-4,3e-2)` a range to sample from."""

import importlib
import itertools
import json
import re
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cocoseg.core.errors import CocosegError, did_you_mean
from cocoseg.core.params import PARAMS, PARAMS_OF_STAGE, load_params

Values = dict[str, Any]
RangeName = Literal["uniform", "loguniform", "int", "logint"]
_KINDS = ("uniform", "loguniform", "int", "logint", "choice")
_EXPECTED = "uniform(low,high), loguniform(low,high), int(low,high), logint(low,high), choice(a,b) or a list, a,b"
_MOST_COMBINATIONS = 50  # that are checked against each other; what is wrong with another ends its run with a line


class Range(msgspec.Struct, frozen=True):
    """Numbers from `low` to `high`, of equal probability, or of equal probability of their logarithms."""

    kind: RangeName
    low: float
    high: float

    @property
    def is_whole(self) -> bool:
        """Whether its numbers are whole ones."""
        return self.kind in ("int", "logint")


class Space(msgspec.Struct, frozen=True):
    """The parameters that a sweep varies, by their keys."""

    grid: dict[str, list[Any]]
    """Every combination of these gets as many runs as any other."""
    choices: dict[str, list[Any]]
    """Values that the sampler chooses from."""
    ranges: dict[str, Range]

    def combinations(self) -> list[Values]:
        """Return the combinations of the grid; without a grid the empty one alone."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]

    @property
    def is_grid(self) -> bool:
        """Whether there is nothing to sample."""
        return not (self.choices or self.ranges)

    def text(self) -> str:
        """Return what tells this space from others."""
        return msgspec.json.encode(self, order="deterministic").decode()


def parse_space(texts: Iterable[str]) -> Space:
    """Return the space of arguments such as `lr=loguniform(1e-4,3e-2)`; raise `CocosegError` for another."""
    space = Space({}, {}, {})
    for text in texts:
        key, equals, right = text.partition("=")
        if not equals or not key or not right.strip():
            raise CocosegError(f"{text}: expected KEY=VALUES, where VALUES are {_EXPECTED}")
        if key in {**space.grid, **space.choices, **space.ranges}:
            raise CocosegError(f"{key} is given twice; expected each parameter once")
        called = re.fullmatch(r"\s*([A-Za-z_]\w*)\((.*)\)\s*", right, re.DOTALL)
        if called is None:
            space.grid[key] = _listed(text, right)
        elif called[1] == "choice":
            space.choices[key] = _listed(text, called[2])
        else:
            space.ranges[key] = _range(text, called[1], _listed(text, called[2]))
    return space


def _listed(text: str, listed: str) -> list[Any]:
    try:
        # YAML 1.2, as in params.yaml: 1e-4 is a number, and [person, car] is one value.
        found = {json.dumps(value): value for value in YAML(typ="safe", pure=True).load(f"[{listed}]")}
    except (YAMLError, ValueError, TypeError):  # TypeError: of a date
        found = {}
    if not found:
        raise CocosegError(f"{text}: not a list of values; expected {_EXPECTED}")
    return list(found.values())


def _range(text: str, kind: str, bounds: Sequence[Any]) -> Range:
    if kind not in _KINDS:
        raise CocosegError(
            f"{text}: unknown distribution {kind}; {did_you_mean(kind, _KINDS, f'expected {_EXPECTED}')}"
        )
    try:
        found = msgspec.convert((kind, *bounds), tuple[RangeName, float, float])
    except msgspec.ValidationError:
        raise CocosegError(f"{text}: expected two numbers, {kind}(low,high)") from None
    whole = kind in ("int", "logint")
    if not found[1] < found[2] or (kind.startswith("log") and found[1] <= 0) or (whole and any(x % 1 for x in bounds)):
        above = "0 < low < high" if kind.startswith("log") else "low < high"
        raise CocosegError(f"{text}: expected {'whole ' if whole else ''}numbers with {above}")
    return Range(*(found[0], int(found[1]), int(found[2])) if whole else found)


class _OfEveryStage(msgspec.Struct, frozen=True):
    pass


def check_space(space: Space, base: Values, stages: Mapping[str, Collection[str]]) -> None:
    """Check every value of a space by the parameter types of `stages`, `train` and those before it, with their keys.

    Raises `CocosegError`, with their own words, for a value that they refuse, and for a parameter that `train` does not
    have, or that an earlier stage has too: it would change what runs are ranked by.
    """
    keys = [*space.grid, *space.choices, *space.ranges]
    known = sorted(set(stages["train"]) - {"primary_score"})
    for key in keys:
        earlier = [stage for stage, read in stages.items() if key in read and stage != "train"]
        if earlier or key == "primary_score":
            raise CocosegError(
                f"{key}: {earlier[0] if earlier else 'the choice of the best run'} depends on it, so runs with other "
                "values cannot be ranked; change it in params.yaml, and sweep what only train reads"
            )
        if key not in known:
            hint = did_you_mean(key, known, f"expected one of {', '.join(known)}")
            raise CocosegError(f"{key}: not a parameter of train; {hint}")
    for module in PARAMS_OF_STAGE.values():  # else each check would import them again
        importlib.import_module(module.partition(":")[0])
    for key, values in {**space.grid, **space.choices}.items():
        for value in values:
            _check(base, {key: value}, stages)
    for key, one in space.ranges.items():
        for number in (one.low, one.high):
            _check(base, {key: number}, stages)
    for combination in space.combinations()[:_MOST_COMBINATIONS] if len(space.grid) > 1 else ():
        _check(base, combination, stages)


def _check(base: Values, changed: Values, stages: Mapping[str, Collection[str]]) -> None:
    values = base | changed
    with tempfile.TemporaryDirectory() as folder:
        params, pipeline = Path(folder, PARAMS), Path(folder, "dvc.yaml")
        params.write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
        read = {stage: {"params": sorted({*keys})} for stage, keys in stages.items()}
        pipeline.write_text(json.dumps({"stages": read | {"later": {"params": sorted(values)}}}), encoding="utf-8")
        try:
            load_params(_OfEveryStage, params, pipeline)
        except CocosegError as error:
            first = str(error).splitlines()[0].removeprefix(f"{params}: ")
            shown = " ".join(f"{key}={json.dumps(value)}" for key, value in changed.items())
            raise CocosegError(f"{shown}: {first}") from None
