"""The pages that a person reads: what they name is there, and what they say to type is taken."""

import json
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from cocoseg.cli import main
from cocoseg.images.png import encode_png

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
PARAMS = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
KINDS = (
    "src",
    "stages",
    "tests",
    "docs",
    "plots",
    "metrics",
    "benchmarks",
    ".github",
    ".devcontainer",
    ".vscode",
    ".ci",
)


def tracked() -> set[str]:
    """Every file that git has or would take, and the folders above them."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return {str(parent) for name in listed for parent in (Path(name), *Path(name).parents)}


def anchors(page: Path) -> set[str]:
    """Where GitHub lets a link into a page point to."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shell_lines(page: Path) -> list[str]:
    """What the page says to type: in its shell blocks, without comments, and in backticks."""
    text = page.read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return [part.strip() for line in lines + spans for part in re.split(r"&&|\|\|| # |^#", line)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_and_picture_leads_somewhere(page: Path) -> None:
    known = tracked()
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert str(found.relative_to(ROOT)) in known, f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(found), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    known = tracked()
    for name in re.findall(r"`([\w./-]+)`", page.read_text()):
        example = "NAME" in name or name.startswith("src/custom/")
        if name.startswith(tuple(f"{kind}/" for kind in KINDS)) and not example:
            assert name.rstrip("/") in known, f"{page.name}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_cocoseg_line_is_one_that_the_command_takes(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("compare", "evaluate", "export", "predict", "rank", "verify", "sweep"):
        monkeypatch.setattr(f"cocoseg.cli._{name}", lambda options: None)
    for line in shell_lines(page):
        words = shlex.split(line, comments=True) if line.startswith("cocoseg ") else []
        # alone it is a name in a sentence
        if len(words) > 2:
            main(["BASE" if word == "[REV]" else word for word in words[1:]])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_parameter_that_a_line_sets_is_one(page: Path) -> None:
    for line in shell_lines(page):
        for key in re.findall(r"-S '?(\w+)=", line):
            assert key in PARAMS, f"{page.name}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_of_code_is_wider_than_the_column_of_a_page(page: Path) -> None:
    blocks = re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    # 94 letters in 840 pixels; a list of classes cannot go on in the next line
    wide = [line for block in blocks for line in block.splitlines() if len(line) > 94 and "classes=[" not in line]
    assert wide == []


def test_the_pictures_that_no_stage_writes_are_what_the_code_draws() -> None:
    for name, picture in runpy.run_path(str(ROOT / ".ci/pictures.py"))["drawn"]():
        assert (ROOT / "docs" / name).read_bytes() == encode_png(picture), f"docs/{name}: run make pictures"


def test_a_site_with_a_picture_or_an_anchor_that_is_not_there_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/index.html").write_text('<h2 id="here"><a href="..">')
    links = '<a href="other/#here"><a href="#top"><a id="top" href="https://a.org/b">'
    for more, said in (("", ""), ('<img src="a.png">', "a.png"), ('<a href="other/#there">', "other/#there")):
        (tmp_path / "index.html").write_text(links + more)
        finished = subprocess.run(
            [sys.executable, ROOT / ".ci/links.py", tmp_path], capture_output=True, text=True, check=False
        )
        assert (finished.returncode, finished.stderr) == (bool(said), said and f"{tmp_path}/index.html: {said}\n")


def test_the_page_of_parameters_is_what_the_code_says() -> None:
    """But for the column of defaults: a team sets its own in params.yaml, and need not write the page anew for that."""
    written = subprocess.run([sys.executable, ROOT / ".ci/parameters.py"], capture_output=True, text=True, check=True)
    pages = ((ROOT / "docs/parameters.md").read_text(), written.stdout)
    page, anew = (re.sub(r"^(\| `\w+` \|) `.*?` \|", r"\1", text, flags=re.MULTILINE) for text in pages)
    assert page == anew, "docs/parameters.md: run make parameters"


def test_the_tree_in_contributing_has_every_package_in_the_order_of_the_layers() -> None:
    tree = (ROOT / "CONTRIBUTING.md").read_text().split("## The tree")[1].split("###")[0]
    rows = [re.findall(r"`(\w+)(?:\.py|/)`", row) for row in re.findall(r"^\| (`[^|]+) \|", tree, re.MULTILINE)]
    named = [name for row in rows for name in row]
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]
    layer = {name: depth for depth, names in enumerate(contract["layers"]) for name in names.split(" | ")}
    assert sorted(named) == sorted(layer)
    assert [layer[name] for name in named] == sorted(layer.values())


@pytest.mark.parametrize(("page", "row"), [("CONTRIBUTING.md", r"\d+"), ("docs/from-a-notebook.md", r"an? [\w ]+")])
def test_what_a_row_of_a_guide_names_is_in_the_files_that_it_names(page: str, row: str) -> None:
    rows = re.findall(rf"^\| {row} \| .*src/.*$", (ROOT / page).read_text(), re.MULTILINE)
    assert len(rows) > 5
    for line in rows:
        files = re.findall(r"`((?:src|stages)/[\w./]+\.py)`", line)
        words = set(re.findall(r"\w+", " ".join((ROOT / file).read_text() for file in files)))
        assert set(re.findall(r"`(\w+)`", line)) <= words, line


def test_issue_forms_and_hooks_are_what_github_and_pre_commit_take() -> None:
    forms = sorted(str(path) for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
    config = str(ROOT / ".github/ISSUE_TEMPLATE/config.yml")
    for command in (
        ["check_jsonschema", "--builtin-schema", "vendor.github-issue-forms", *forms],
        ["check_jsonschema", "--builtin-schema", "vendor.github-issue-config", config],
        ["pre_commit", "validate-config", str(ROOT / ".pre-commit-config.yaml")],
    ):
        finished = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize(
    "name", [".devcontainer/devcontainer.json", ".vscode/extensions.json", ".vscode/settings.json"]
)
def test_the_editors_files_are_json_with_comments(name: str) -> None:
    text = (ROOT / name).read_text()
    assert json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
