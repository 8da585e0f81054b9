"""Functions of the user's own, in files below `src/custom`; `params.yaml` names one as `custom/mine.py:name`.

Each file is hashed before it runs, whatever imports it. A model names the files that it was made with, and is used only
with these. They are never taken from where the model comes from: a stranger's code does not run.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from torch import nn

from cocoseg.core.errors import CocosegError, did_you_mean, first_line
from cocoseg.hardware import out_of_memory
from cocoseg.model.params import OWN_PACKAGE, own_name

FOLDER = Path("src", OWN_PACKAGE)


class MadeWith(NamedTuple):
    """The files that a model was made with, SHA-256 by path. `place` and `revision` are the model's, for errors."""

    files: Mapping[str, str]
    place: str
    revision: str = "REVISION"


class _Finder(MetaPathFinder):
    """Imports `custom` and its modules from the folder of the working tree, after a look at their bytes."""

    def __init__(self) -> None:
        self.folder = FOLDER.resolve()
        self.ran: dict[str, str] = {}  # SHA-256 by path
        self.made_with: MadeWith | None = None  # of a model; `None` allows every file

    def start(self, made_with: MadeWith | None) -> None:
        """Forget what was imported, if it may not be what an import would bring now."""
        self.made_with = made_with
        folder = FOLDER.resolve()
        if made_with is None and folder == self.folder and not any(map(_changed, self.ran.items())):
            return
        self.folder, self.ran = folder, {}
        for name in [name for name in sys.modules if name.split(".")[0] == OWN_PACKAGE]:
            del sys.modules[name]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        first, *rest = fullname.split(".")
        if first != OWN_PACKAGE:
            return None
        base = self.folder.joinpath(*rest)
        package, module = base / "__init__.py", base.with_name(f"{base.name}.py")
        for file, places in ((package, [str(base)]), (module, None)):
            if file.is_file() and (places or rest):
                loader = _Loader(fullname, str(file))
                return spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=places)
        if not base.is_dir():
            raise ModuleNotFoundError(f"No module named '{fullname}'", name=fullname)
        spec = ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = [str(base)]
        return spec

    def admit(self, file: Path, data: bytes) -> None:
        """Note a file that is about to run. Raises `CocosegError` if it is not one that the model was made with."""
        name, here = shown(file), hashlib.sha256(data).hexdigest()
        model = self.made_with
        if model is not None and (there := model.files.get(name)) != here:
            made = f"another {name} (SHA-256 {there[:12]}, here {here[:12]})" if there else f"other code than {name}"
            raise CocosegError(
                f"{model.place}: made with {made}, and only code of your own tree runs; bring that file here, as with: "
                f"git checkout {model.revision} -- {name}"
            )
        self.ran[name] = here


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the file. Not from a .pyc: what runs is what was hashed."""
        data = self.get_data(self.path)
        _finder.admit(Path(self.path), data)
        return self.source_to_code(data, self.path)


_finder = _Finder()


def own_function(
    parameter: str, name: str, arguments: Sequence[str], made_with: MadeWith | None = None
) -> Callable[..., Any]:
    """Return the function that `parameter` names, which takes `arguments` by position.

    Raises `CocosegError` for a name of another form, a missing file or function, a file that cannot be imported, and
    before a file runs that the model was not made with.
    """
    try:
        stem, function_name = own_name(parameter, name)
    except ValueError as error:  # in the model.json of a stranger
        raise CocosegError(str(error)) from None
    file = Path(f"src/{stem}.py")
    if not file.is_file():
        names_it = made_with.place if made_with else "params.yaml"
        way_out = f"git checkout {made_with.revision} --" if made_with else "for a queued run git must know it: git add"
        raise CocosegError(
            f"{file}: not found, but {names_it} has {parameter}: {name}; expected it in the folder that you run from; "
            f"{way_out} {file}"
        )
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _finder.start(made_with)
    module = _imported(stem.replace("/", "."))
    if not hasattr(module, function_name):
        defined = [key for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
        hint = did_you_mean(function_name, defined, f"it defines {', '.join(defined) or 'nothing'}")
        raise CocosegError(f"{file}: has no {function_name}, but {parameter} is {name}; {hint}")
    function: Callable[..., Any] = getattr(module, function_name)
    _check_arguments(function, f"{file}: {function_name}", arguments)
    return function


def own_model(name: str, channels: int, image_size_px: int, made_with: MadeWith | None = None) -> nn.Module:
    """Return the network that the function `name` builds. Raises `CocosegError` as `own_function` does."""
    build = own_function("arch", name, ("classes", "image_size_px"), made_with)
    with own_errors_explained():
        model = build(channels, image_size_px)
    if not isinstance(model, nn.Module):
        raise CocosegError(f"{own_place(name)} returns {_kind(model)}; expected a torch.nn.Module")
    return model


def own_hashes() -> dict[str, str]:
    """Return the SHA-256 of each file of the user's own that has run, by its path from the root."""
    return dict(sorted(_finder.ran.items()))


def own_place(name: str) -> str:
    """Return how errors name a function: `src/custom/mine.py: name`."""
    file, _, function_name = name.partition(":")
    return f"src/{file}: {function_name}"


def shown(file: Path) -> str:
    """Return the path of a file of the user's own from the root."""
    return (FOLDER / file.relative_to(_finder.folder)).as_posix()


@contextmanager
def own_errors_explained() -> Iterator[None]:
    """Turn an error that a file of the user's own raises or causes into one line with its place."""
    try:
        yield
    except CocosegError:
        raise
    except (Exception, SystemExit) as error:
        place = _place(error)
        if place is None or out_of_memory(error):
            raise
        raise CocosegError(f"{place}: {type(error).__name__}: {first_line(error)}") from None


def _imported(module: str) -> ModuleType:
    with own_errors_explained():
        __import__(module)
    return sys.modules[module]


def _place(error: BaseException) -> str | None:
    """Return the file and line of the user's own that an error comes from last, or `None`."""
    lines = []
    trace = error.__traceback__
    while trace is not None:
        lines.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    if isinstance(error, SyntaxError):
        lines.append((error.filename or "", error.lineno or 0))
    own = ((Path(file), line) for file, line in reversed(lines) if Path(file).is_relative_to(_finder.folder))
    return next((f"{shown(file)}:{line}" for file, line in own), None)


def _check_arguments(function: Any, place: str, arguments: Sequence[str]) -> None:
    if not callable(function):
        raise CocosegError(f"{place} is {_kind(function)}; expected a function of ({', '.join(arguments)})")
    try:
        signature = inspect.signature(function)
    except ValueError:  # of a function without one, such as a built-in one
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise CocosegError(
            f"{place}{signature}: {error}; expected a function of ({', '.join(arguments)}), by position"
        ) from None


def _kind(value: object) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def _changed(ran: tuple[str, str]) -> bool:
    file = Path(ran[0])
    return not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != ran[1]
