"""What DVC wrote, as a stranger could have written it: `dvc.lock`, and the lists of the files of a folder."""

import copy
import io
import json
import re
from typing import Any

import pytest
from clones import Clone, git_repository
from hostile.test_hostile_annotations import laughs
from mutations import places
from ruamel.yaml import YAML
from sandbox import Sandbox
from stage_runs import ROOT

from cocoseg.commands.compare.differences import differences
from cocoseg.commands.compare.runs import CURVES, Curves, seed_of
from cocoseg.commands.compare.seeds import group_key
from cocoseg.commands.dvc_adapter import Output
from cocoseg.commands.revisions import Revision, stages_of_lock
from cocoseg.commands.verify.outputs import listed_files
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import write_bytes, write_json

LOCKS = {
    "a tag that runs code": "stages: !!python/object/apply:os.system [touch ../canary/x]",
    "lists 2,000 deep": "stages: " + "[" * 2000,
    "stages that are a list": "stages: [1, 2]",
    "aliases that multiply": laughs(30).replace("annotations:", "stages:"),
    "bytes that are no text": "stages: \x01",
}


def compared(sandbox: Sandbox, lock: str) -> str:
    """Return what `cocoseg compare` says of a commit with this lock."""
    git_repository(sandbox.work)
    for file in ("params.yaml", "dvc.yaml", "metrics/evaluate.json"):
        write_bytes(sandbox.work / file, (ROOT / file).read_bytes())
    (sandbox.work / "dvc.lock").write_text(lock, encoding="utf-8")
    work = Clone(sandbox.work)
    work.git("add", "--all")
    work.git("-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "--quiet", "--message", "strange")
    status, line = sandbox.command("compare", "HEAD")
    assert status == 1
    return line


@pytest.mark.parametrize(("what", "text"), LOCKS.items(), ids=list(LOCKS))
def test_a_lock_that_dvc_would_not_write_is_one_line(sandbox: Sandbox, what: str, text: str) -> None:
    line = compared(sandbox, text)

    assert re.match(r"HEAD: dvc\.lock: not a valid lock file( \(.+\))?; restore it with git checkout", line)
    sandbox.tell("dvc.lock", what, line)


def test_an_output_that_the_lock_does_not_name_is_not_said_to_be_lost(sandbox: Sandbox) -> None:
    line = compared(sandbox, "schema: '2.0'\nstages: {}")

    assert line.startswith("HEAD: dvc.lock does not name data/evaluation/per_image.csv; run dvc repro there")


STAGE = {
    "cmd": "python stages/train.py",
    "deps": [{"path": "src/cocoseg/core", "hash": "md5", "md5": f"{'0' * 32}.dir"}, {"path": "data/masks", "md5": "1"}],
    "params": {"params.yaml": {"lr": 0.1, "seed": 0, "classes": ["dog"]}},
    "outs": [{"path": "data/model", "hash": "md5", "md5": "2", "size": 3}],
}


@pytest.mark.parametrize("value", [None, 7, 0.5, "x", "2026-11-29", [], [None], ["a"], {}, {"a": 1}, {1: 2, "b": 3}])
def test_a_lock_with_another_type_anywhere_is_read_or_one_line(value: Any) -> None:
    lock = {"schema": "2.0", "stages": {"train": STAGE}}
    for *above, last in (path for path in places(lock) if path):
        changed = copy.deepcopy(lock)
        inner: Any = changed
        for key in above:
            inner = inner[key]
        inner[last] = value
        text = io.StringIO()
        YAML(typ="safe", pure=True).dump(changed, text)
        said = "HEAD: dvc.lock: "
        try:
            revision = Revision("HEAD", None)
            revision.lock = stages_of_lock(text.getvalue().encode(), "HEAD: dvc.lock")
            group_key(revision.lock)
            differences(revision, revision)
            revision.output_hash("train", "data/model")
            seed_of(revision)
        except CocosegError as error:
            said = str(error)
        assert said.startswith("HEAD: dvc.lock: ")


@pytest.mark.parametrize("best", [7, [], {"val/miou": "0.5"}, {"val/miou": [0.5]}])
def test_curves_of_another_type_are_one_line(sandbox: Sandbox, best: Any) -> None:
    write_json(sandbox.work / CURVES, {"best": best})

    with pytest.raises(CocosegError, match="^the working tree: metrics/train/metrics.json: Expected .* got `"):
        Revision("the working tree", None).tracked_json(CURVES, Curves)


LISTS: dict[str, tuple[Any, str]] = {
    "a file that climbs": ([{"md5": "0" * 32, "relpath": "../canary/photo.jpg"}], "'../canary/photo.jpg', outside the"),
    "an absolute path": ([{"md5": "0" * 32, "relpath": "/etc/passwd"}], "names '/etc/passwd', outside the folder"),
    "backslashes": ([{"md5": "0" * 32, "relpath": "..\\a"}], "outside the folder"),
    "an object that climbs": (
        [{"md5": "../../../canary/photo.jpg", "relpath": "a"}],
        "is not a valid list of files: Expected",
    ),
    "an object": ({}, "is not a valid list of files: Expected `array`, got `object`"),
    "lists 100,000 deep": ('[{"a":' + "[" * 100_000, "is not a valid list of files: maximum recursion depth exceeded"),
}


@pytest.mark.parametrize(("what", "content", "line"), [(key, *value) for key, value in LISTS.items()], ids=list(LISTS))
def test_a_list_of_files_that_leave_their_folder_is_one_line(
    sandbox: Sandbox, what: str, content: Any, line: str
) -> None:
    output = Output("data/images", "d41d8cd98f00b204e9800998ecf8427e.dir", "download_images", True, None)
    text = content if isinstance(content, str) else json.dumps(content)

    with pytest.raises(CocosegError) as caught:
        listed_files(text.encode(), output)

    assert line in str(caught.value)
    assert str(caught.value).startswith("data/images: d41d8cd98f00b204e9800998ecf8427e.dir ")
    sandbox.tell("list of a folder", what, str(caught.value))
