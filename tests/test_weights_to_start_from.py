"""The lines of docs/experiments.md that fill the folder of `initial_weights`, and the runs that see what came."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from clones import ROOT, Clone
from loopback import LoopbackServer
from train.test_initial_weights import UNET, write_ours, write_smp

from cocoseg.train.initial_weights import read_initial_model

PAGE = (ROOT / "docs/experiments.md").read_text()
GET, IMPORT, DOWNLOAD = re.findall(r"^(?:dvc get|dvc import|hf download) .*data/custom/weights\S*", PAGE, re.MULTILINE)
FOLDER = "data/custom/weights"
COMMIT = "a" * 40
# `see` depends on the folder as `train` does.
DVC_YAML = f"""\
stages:
  train:
    cmd: cp -r model data/model
    deps: [model]
    outs: [data/model]
  see:
    cmd: find {FOLDER} -name '*.safetensors' > seen.txt
    params: [initial_weights]
    deps: ["${{initial_weights}}"]
    outs: [seen.txt: {{cache: false}}]
"""


def project(folder: Path) -> Clone:
    """Our folders and rules of what is ignored, with a model that a stage has made."""
    made = Clone(folder)
    shutil.copytree(ROOT / FOLDER, folder / FOLDER, ignore=shutil.ignore_patterns("*.dvc", "model"))
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(ROOT / name, folder)
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / "params.yaml").write_text(f"initial_weights: {FOLDER}\n")
    write_ours(folder / "model")
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("config", "user.name", "A. Tester")
    made.git("config", "user.email", "tester@example.org")
    made.dvc_here("init", "--quiet")
    made.dvc_here("repro")
    made.commit("results")
    return made


def answer(body: bytes) -> Callable[[], Iterable[bytes]]:
    """What the Hub answers to a request for a file."""
    head = f'HTTP/1.1 200 OK\r\nX-Repo-Commit: {COMMIT}\r\nETag: "{hashlib.sha1(body).hexdigest()}"\r\n'
    return lambda: [f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode(), body]


def seen_in_a_copy(here: Clone) -> list[str]:
    here.dvc("exp", "run", "--temp", "--name", "seen", "see")
    here.dvc("exp", "apply", "seen")
    return (here.folder / "seen.txt").read_text().splitlines()


def model_in(here: Clone, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(here.folder)
    found = read_initial_model(FOLDER)
    assert found is not None
    assert len(found.tensors) > 100
    return found.place


def test_a_model_of_a_commit_comes_with_dvc_get_and_a_copy_sees_it_after_dvc_add(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = project(tmp_path)
    here.dvc_here(*GET.replace("NAME", "main").split()[1:])
    assert model_in(here, monkeypatch) == f"{FOLDER}/model"
    assert here.git("status", "--porcelain") == ""  # nothing that `git add` would pick up
    here.dvc_here("add", f"{FOLDER}/model")
    here.git("add", FOLDER)
    shutil.rmtree(tmp_path / FOLDER / "model")
    here.dvc_here("checkout")  # DVC finds the .dvc file below folders that git mostly ignores
    assert seen_in_a_copy(here) == [f"{FOLDER}/model/model.safetensors"]


def test_a_model_of_another_repository_comes_with_dvc_import_and_a_copy_sees_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, here = project(tmp_path / "other"), project(tmp_path / "here")
    here.dvc_here(*IMPORT.replace("URL", str(other.folder)).split()[1:])
    assert model_in(here, monkeypatch) == f"{FOLDER}/model"
    here.git("add", FOLDER)
    assert seen_in_a_copy(here) == [f"{FOLDER}/model/model.safetensors"]


def test_a_model_of_the_hub_comes_with_hf_download_and_its_notes_with_the_time_are_no_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = project(tmp_path / "here")
    write_smp(tmp_path / "hub", UNET)
    names = sorted(path.name for path in (tmp_path / "hub").iterdir())
    files = {name: (tmp_path / "hub" / name).read_bytes() for name in names}
    listed = [{"type": "file", "path": name, "size": len(files[name]), "oid": COMMIT} for name in names]
    about = {"id": "USER/NAME", "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}
    with LoopbackServer({}) as hub:
        hub.answers = {f"USER/NAME/resolve/{COMMIT}/{name}": answer(body) for name, body in files.items()} | {
            "api/models/USER/NAME/revision/main": answer(json.dumps(about).encode()),
            f"api/models/USER/NAME/tree/{COMMIT}": answer(json.dumps(listed).encode()),
        }
        here.run(*DOWNLOAD.split(), HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "home"))
    assert model_in(here, monkeypatch) == f"{FOLDER}/hub"
    assert (here.folder / FOLDER / "hub/.cache").is_dir()
    here.dvc_here("add", f"{FOLDER}/hub")
    assert here.yaml(f"{FOLDER}/hub.dvc")["outs"][0]["nfiles"] == len(names)
