"""Write docs/parameters.md: of each parameter its default, what is allowed, which stages read it, and what it means.

The groups and defaults come from params.yaml, the rest from the parameter types of the stages, whose fields have
docstrings. Usage: uv run .ci/parameters.py > docs/parameters.md
"""

import ast
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from ruamel.yaml import YAML

from cocoseg.core.params import allowed

ROOT = Path(__file__).parents[1]
HEAD = """# Parameters

Every choice is a line of `params.yaml`; `-S` sets one for a run, as in `-S lr=0.001`. A change runs the stages that
read the key, and those after them whose input changes with it. Every stage checks all keys before it starts its work: a
wrong type, a value out of range or an unknown key stops the first that runs, with a line for each. After `-S`, DVC
itself refuses an unknown key: never take the `+` that it suggests, since no stage reads the new key. A comma starts a
sweep: write `lr=0.003`, not `lr=0,003`. If a key is missing from `params.yaml`, DVC stops before our check; restore it
with `git checkout HEAD params.yaml`. If `dvc repro` finds nothing changed, no stage runs, and a mistake goes unnoticed.

`make parameters` writes this page from the code.
"""


def stage_types(stages: dict[str, Any]) -> Iterator[type[msgspec.Struct]]:
    """Yield the parameter type of each stage, which its script hands to `run`."""
    for stage in stages:
        tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text(encoding="utf-8"))
        names = {
            alias.name: node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        (name,) = (name for name in names if name.endswith("Params"))
        yield getattr(importlib.import_module(str(names[name])), name)


def meanings(params_type: type[msgspec.Struct]) -> dict[str, str]:
    """Return the docstring of each field of a type that has one, on one line."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(params_type))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
            found[field.target.id] = inspect.cleandoc(str(ast.literal_eval(after.value))).replace("\n", " ")
    return found


def groups(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each heading of params.yaml and the keys below it."""
    for part in re.split(r"^# -+ ", text, flags=re.MULTILINE)[1:]:
        heading, _, lines = part.partition("\n")
        yield heading.rstrip(" -"), re.findall(r"^(\w+):", lines, re.MULTILINE)


def shown(value: Any) -> str:
    """Return a default as `-S` takes it."""
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{'null' if value is None else str(value).lower() if isinstance(value, bool) else value}`"


def page() -> str:
    """Return the page."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    defaults = YAML(typ="safe", pure=True).load(text)
    stages = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
    fields: dict[str, Any] = {}
    means: dict[str, str] = {}
    for params_type in stage_types(stages):
        fields = {field.name: field.type for field in msgspec.structs.fields(params_type)} | fields
        means = meanings(params_type) | means
    parts = [HEAD]
    for heading, keys in groups(text):
        parts.append(f"\n## {heading[0].upper()}{heading[1:]}\n")
        parts.append("| key | default | allowed | read by | meaning |\n|---|---|---|---|---|")
        for key in keys:
            readers = ", ".join(f"`{name}`" for name, stage in stages.items() if key in stage["params"])
            parts.append(f"| `{key}` | {shown(defaults[key])} | {allowed(fields[key])} | {readers} | {means[key]} |")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
