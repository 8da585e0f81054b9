"""YAML as DVC writes it, read in a tenth of the time: by libyaml, with the types of YAML 1.2."""

import re
from typing import Any, ClassVar

import yaml
from ruamel.yaml import YAML

# libyaml's composer recurses in C and crashes on thousands of lists in each other, which DVC does not write.
_MAYBE_DEEP = re.compile(r" {100}|(?:[-?:]\s+){9}")
_MOST_BRACKETS = 300


_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # some builds of PyYAML lack libyaml


class _Loader(_Base):
    """Refuses a key that stands twice, as after a merge that went wrong."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def flatten_mapping(self, node: Any) -> None:
        names = [key.value for key, _ in node.value if isinstance(key.value, str)]
        if len(set(names)) < len(names):
            raise yaml.constructor.ConstructorError("while reading", node.start_mark, "a key stands twice")


# PyYAML's own are those of YAML 1.1, to which 1e-5 is a string, 012 is ten and "no" is false.
for tag, pattern, first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"(?:{pattern})$"), first)


def loaded(text: str) -> Any:
    """Return the content of a YAML 1.2 text.

    Raises `ValueError`, `RecursionError`, or the `YAMLError` of ruamel.yaml for one that is not valid.
    """
    if _MAYBE_DEEP.search(text) or text.count("[") + text.count("{") > _MOST_BRACKETS:
        return YAML(typ="safe", pure=True).load(text)
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
