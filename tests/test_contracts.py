"""What `dvc.yaml` says of the stages is what their code does."""

import ast
import importlib.util
import inspect
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import grimp
import msgspec
import pytest
from reach import REACHED_FROM
from ruamel.yaml import YAML

import cocoseg.paths
from cocoseg.core.params import PARAMS_OF_STAGE
from cocoseg.model.own_code import FOLDER

ROOT = Path(__file__).parents[1]
PIPELINE = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")
STAGES: dict[str, dict[str, Any]] = PIPELINE["stages"]
GRAPH = grimp.build_graph("cocoseg", cache_dir=None)


def source(module: str) -> str:
    """`cocoseg.filter.choose` -> `src/cocoseg/filter/choose.py`."""
    path = Path("src", *module.split("."))
    return str(path / "__init__.py" if (ROOT / path / "__init__.py").exists() else path.with_suffix(".py"))


def imported_modules(script: Path) -> set[str]:
    """The modules of the library that a script imports."""
    nodes = list(ast.walk(ast.parse(script.read_text(encoding="utf-8"))))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    from_ = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    below = {
        f"{node.module}.{alias.name}" for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    return ((plain | from_) & GRAPH.modules) | (below & GRAPH.modules)


def closure(stage: str) -> set[str]:
    """The source files that a stage executes: its script and every module that it imports, directly or not."""
    modules = imported_modules(ROOT / "stages" / f"{stage}.py")
    for module in set(modules):
        modules |= GRAPH.find_upstream_modules(module)
    packages = {".".join(module.split(".")[:depth]) for module in modules for depth in range(1, module.count(".") + 1)}
    return {source(module) for module in modules | packages} | {f"stages/{stage}.py"}


def code(stage: str) -> set[str]:
    """The source files among the `deps` of a stage, those in folders among them, without the user's own."""
    found: set[str] = set()
    for dep in STAGES[stage]["deps"]:
        if dep == FOLDER.as_posix():
            continue
        path = ROOT / dep
        if dep.startswith("src/") and path.is_dir():
            files = (inside.relative_to(ROOT) for inside in path.rglob("*.py"))
            found |= {file.as_posix() for file in files if not any(part.startswith(".") for part in file.parts)}
        elif dep.endswith(".py"):
            found.add(dep)
    return found


def is_code(dep: str) -> bool:
    return dep.startswith(("src/", "stages/"))


def named_paths(script: Path) -> set[Path]:
    """The paths of `cocoseg.paths` that a script names."""
    return {
        getattr(cocoseg.paths, node.attr)
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "paths"
    }


def paths(entries: list[Any]) -> set[str]:
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def written(stage: str) -> set[str]:
    return {path for kind in ("outs", "metrics", "plots") for path in paths(STAGES[stage].get(kind, []))}


def load(stage: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"stage_{stage}", ROOT / "stages" / f"{stage}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_that_it_imports_and_on_no_other(stage: str) -> None:
    assert code(stage) == closure(stage)


@pytest.mark.parametrize(("module", "stages"), REACHED_FROM.items(), ids=REACHED_FROM)
def test_a_line_of_a_module_is_a_line_of_the_stages_that_reach_it(module: str, stages: str) -> None:
    path = f"src/cocoseg/{module}.py"
    assert (ROOT / path).is_file()
    for files in (code, closure):
        assert [stage for stage in STAGES if path in files(stage)] == stages.split()


def test_a_change_of_the_users_own_code_runs_training_and_evaluation_again() -> None:
    own = FOLDER.as_posix()
    assert [stage for stage, entry in STAGES.items() if own in entry["deps"]] == ["train", "evaluate"]


@pytest.mark.parametrize("stage", STAGES)
def test_no_code_stands_twice_among_the_deps_of_a_stage(stage: str) -> None:
    declared = [Path(dep) for dep in STAGES[stage]["deps"] if is_code(dep)]
    assert not [path for path in declared for other in declared if other in path.parents]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_every_path_that_its_script_names(stage: str) -> None:
    declared = paths(STAGES[stage]["deps"]) | written(stage)
    data = {Path(path) for path in declared if not is_code(path) and "${" not in path}
    named = named_paths(ROOT / "stages" / f"{stage}.py")
    for path in named:
        assert data & {path, *path.parents}, f"{stage} names {path}, which dvc.yaml does not declare"
    for path in data:
        assert any(path in (name, *name.parents) for name in named), f"dvc.yaml declares {path}, {stage} names it not"


def test_no_module_that_a_stage_imports_names_a_path_of_the_data() -> None:
    # Stage scripts and commands say where; it stands in one place.
    modules = set().union(*(closure(stage) - {f"stages/{stage}.py"} for stage in STAGES))
    for path in sorted(modules - {"src/cocoseg/paths.py"}):
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        named = {
            node.args[0].value
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Path"
            if node.args and isinstance(node.args[0], ast.Constant)
        }
        roots = {str(name).partition("/")[0] for name in named} & {"data", "plots", "metrics"}
        assert roots <= ({"metrics"} if path == "src/cocoseg/core/stage.py" else set()), path


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_fields_of_its_parameter_type(stage: str) -> None:
    main = load(stage).main
    params_type = get_type_hints(main)[next(iter(inspect.signature(main).parameters))]
    assert issubclass(params_type, msgspec.Struct)
    assert params_type.__struct_config__.frozen
    assert set(STAGES[stage]["params"]) == set(params_type.__struct_fields__)
    # Every other stage checks it too, by this name: the code of a type that can only refuse is no dep of those.
    assert PARAMS_OF_STAGE[stage] == f"{params_type.__module__}:{params_type.__name__}"


def test_every_parameter_is_declared_by_a_stage_and_explained() -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    values = YAML(typ="safe", pure=True).load(text)
    assert set(values) == {key for stage in STAGES.values() for key in stage["params"]}


def test_a_path_is_written_by_one_stage_and_read_only_after_it() -> None:
    owner: dict[str, str] = {}
    for stage, entry in STAGES.items():
        for path in paths(entry["deps"]):
            if path.startswith("data/"):
                assert path in owner, f"{stage} reads {path} before a stage writes it"
        for path in written(stage):
            assert path not in owner
            owner[path] = stage


def test_metrics_and_plots_stay_in_git_and_data_in_the_cache() -> None:
    for stage, entry in STAGES.items():
        for kind in ("outs", "metrics", "plots"):
            for out in entry.get(kind, []):
                path, options = (out, {}) if isinstance(out, str) else next(iter(out.items()))
                in_git = options.get("cache", True) is False
                assert in_git == path.startswith(("metrics/", "plots/")), f"{stage}: {path}"


def test_git_holds_every_module_as_a_file_of_its_own() -> None:
    # What git ignores is not in a clone, and a link inside a folder of a stage's deps is not looked behind.
    listed = subprocess.run(
        ["git", "ls-files", "--stage", "src"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert {line.split()[0] for line in listed} <= {"100644", "100755"}
    ignored = subprocess.run(
        ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "--", "src/*.py"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ignored.stdout == ""


def test_every_stage_says_what_it_does() -> None:
    assert all(entry["desc"] for entry in STAGES.values())


def test_a_command_is_one_in_every_login_shell() -> None:
    assert not any("=" in entry["cmd"].split()[0] for entry in STAGES.values())  # which csh takes for its name
