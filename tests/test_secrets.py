"""No secret in a log, a report, dvc.lock or a plot: canaries in the environment, and a search through what is left."""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from clones import TINY, Clone, clone
from loopback import LoopbackServer
from stage_runs import run_stage

from cocoseg.core.redaction import one_line, without_secrets
from cocoseg.download.sample.scenes import draw_annotations, draw_image

PASSWORD = "canary-password"
SECRETS = {
    "AWS_ACCESS_KEY_ID": "canary-access-key",
    "AWS_SECRET_ACCESS_KEY": "canary-secret-key",
    "AWS_SESSION_TOKEN": "canary-session",
    "GITHUB_TOKEN": "canary-github",
    "HF_TOKEN": "canary-hugging",
    "WANDB_API_KEY": "canary-weights-and-biases-of-40-letters-",
}
CANARIES = [b"canary-", base64.b64encode(f"me:{PASSWORD}".encode())]


def leaks(*folders: Path) -> list[str]:
    """The files that hold a canary, also in their names, but for the tests themselves."""
    return [
        str(path)
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix != ".py"
        and ("canary-" in path.name or (path.is_file() and any(word in path.read_bytes() for word in CANARIES)))
    ]


@pytest.fixture(scope="module")
def server() -> Iterator[LoopbackServer]:
    """The first drawn images with their annotations, behind addresses of their own."""
    content = json.loads(draw_annotations())
    content["images"] = content["images"][:60]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in ids]
    files = {f"images/{image['file_name']}": draw_image(image["id"]) for image in content["images"]}
    # DVC asks for the folder itself too.
    with LoopbackServer(files | {"instances.json": json.dumps(content).encode(), "images": b"a list"}) as running:
        yield running


@pytest.fixture(scope="module")
def made(server: LoopbackServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Clone, str, Path]]:
    """A clone in which the pipeline ran on data from a server with a password, what it said, and its cache.

    The environment stays as it was then.
    """
    folder = tmp_path_factory.mktemp("secrets")
    netrc = folder / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login me password {PASSWORD}\n")
    netrc.chmod(0o600)
    where = {"dataset": "custom", "annotations": f"{server.url}/instances.json", "images": f"{server.url}/images"}
    repository = clone(folder / "clone", TINY | where)
    records = {"COCOSEG_WANDB": "test", "WANDB_MODE": "offline", "WANDB_DIR": str(repository.folder)}
    environment = {**SECRETS, **records, "NETRC": str(netrc), "COCOSEG_CACHE": str(folder / "cache")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        said = repository.dvc("repro")
        repository.commit("results")
        yield repository, said, folder / "cache"


def test_what_the_environment_holds_is_in_no_file_and_no_line(
    made: tuple[Clone, str, Path], server: LoopbackServer
) -> None:
    repository, said, cache = made

    assert set(server.passwords) == {f"Basic {CANARIES[1].decode()}"}  # so it was there
    assert "canary-" not in said
    assert (repository.folder / "dvc.lock").exists()
    assert list((repository.folder / "wandb").glob("offline-run-*/*.wandb"))
    assert leaks(repository.folder, cache) == []


@pytest.mark.parametrize("key", ["annotations", "images"])
@pytest.mark.parametrize("address", ["http://me:canary-word@{}/a", "http://{}/a?token=canary-word"])
def test_an_address_with_a_secret_never_gets_into_dvc_lock(
    made: tuple[Clone, str, Path], server: LoopbackServer, key: str, address: str
) -> None:
    repository, _, _ = made
    server.files["a"] = b"{}"
    repository.set_params(**{key: address.format(server.url.removeprefix("http://"))})

    said = repository.dvc("repro", check=False)

    assert f"download: params.yaml: {key} is an address on 127.0.0.1 with a user, password or query" in said
    lines = [line for line in said.splitlines() if "params.yaml: " in line]
    assert "canary-" not in "".join(lines)
    repository.git("checkout", "--quiet", "params.yaml")
    assert leaks(repository.folder) == []
    repository.git("checkout", "--quiet", ".")
    repository.dvc("checkout")


def test_a_mirror_with_a_password_and_a_signature_is_shown_without_them(tmp_path: Path) -> None:
    with LoopbackServer({}) as server:
        mirror = f"{server.url.replace('//', '//me:canary-word@')}/coco?signature=canary-word"
        environment = {"COCOSEG_COCO_URL": mirror, "COCOSEG_CACHE": str(tmp_path / "cache")}
        params = {"dataset": "coco2017-val", "annotations": "", "images": ""}
        status, lines = run_stage(tmp_path, "download", params, environment)

    assert status == 1
    assert lines[0].endswith(f"from {server.url}/coco")
    assert lines[1].startswith(f"download: {server.url}/coco/annotations/annotations_trainval2017.zip: not found (")
    assert "canary-" not in "".join(lines)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:word@a.org/b: gone", "https://a.org/b: gone"),
        ("https://me:w@rd@a.org/b", "https://a.org/b"),
        ("https://a.org/b@2x.jpg", "https://a.org/b@2x.jpg"),
        ("GET https://a.org/b?sig=x&key=y failed", "GET https://a.org/b failed"),
    ],
)
def test_an_address_is_shown_without_user_password_and_query(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


def test_the_canaries_are_found_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(os.urandom(9) + b"canary-word" + os.urandom(9))
    (tmp_path / "b").write_bytes(b"Basic " + CANARIES[1])
    (tmp_path / "c").write_bytes(b"nothing")
    assert sorted(leaks(tmp_path)) == [str(tmp_path / "a"), str(tmp_path / "b")]


@pytest.mark.parametrize("name", ["AWS_SECRET_ACCESS_KEY", "AZURE_STORAGE_CONNECTION_STRING", "my_pwd", "GITHUB_PAT"])
def test_what_a_library_repeats_of_the_environment_is_not_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "canary-word")
    error = OSError("the server refused\n canary-word at s3://me:pass/word@bucket/x")
    assert one_line(error, {}) == "the server refused *** at s3://bucket/x"
    config = {"remote": {"store": {"url": "s3://bucket", "secret_access_key": "canary-key"}}}
    assert one_line(OSError("canary-key at s3://bucket"), config) == "*** at s3://bucket"
