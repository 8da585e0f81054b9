"""A network that is slow, cut or lying costs time or one line, and then everything ends as if it had been whole."""

from collections.abc import Iterator

import pytest
from faults.disturbed import ALL, PARAMS, Sandbox
from faults.undisturbed import Record, Undisturbed
from loopback import CUT, FLIP, RESET, SHORT, STALL, LoopbackServer

ANNOTATIONS, FOLDER = "instances.json", "images"
# For how many requests in a row each file is disturbed; then the network is whole.
OVERCOME = {
    "busy": [503, 429],
    "failing": [500, 502],
    "cut": [CUT, CUT],
    "reset": [RESET, RESET],
    "silent": [STALL],
    "wrong bytes": [FLIP, FLIP],
    "half a file, said to be whole": [SHORT, SHORT],
}
GIVEN_UP = {
    "refused": (401, "the server answered 401, at the first attempt"),
    "failing for long": (503, "the server answered 503, after 7 attempts"),
    "cut for long": (CUT, "Response payload is not completed"),
    "wrong bytes for long": (FLIP, "ClientPayloadError: the MD5 of the content is"),
}


@pytest.fixture(scope="module")
def server(undisturbed: Undisturbed) -> Iterator[LoopbackServer]:
    """The drawn sample's images and annotations, as somebody would serve them."""
    data = undisturbed.after("download_images") / "work/data"
    files = {f"images/{path.name}": path.read_bytes() for path in (data / "images").iterdir()}
    files[FOLDER] = b"a listing, as servers give of a folder; without an answer here DVC takes it not to exist"
    files[ANNOTATIONS] = (data / "filtered/instances.json").read_bytes()
    with LoopbackServer(files, digests=True) as server:
        yield server


def prepare(sandbox: Sandbox, undisturbed: Undisturbed, server: LoopbackServer) -> Sandbox:
    """Nothing was made yet, of what the server has."""
    sandbox.become(undisturbed.before("download"))
    addresses = {"annotations": f"{server.url}/{ANNOTATIONS}", "images": f"{server.url}/images"}
    sandbox.clone.set_params(**PARAMS, dataset="custom", **addresses)
    server.faults.clear()
    return sandbox


@pytest.fixture(scope="module")
def whole(undisturbed: Undisturbed, server: LoopbackServer) -> dict[str, str]:
    """What the data stages make over a network that is whole."""
    sandbox = prepare(undisturbed.sandbox, undisturbed, server)
    ended = sandbox.dvc("repro", "split")
    assert ended.status == 0, ended.said
    return sandbox.content()


@pytest.fixture
def sandbox(whole: dict[str, str], undisturbed: Undisturbed, server: LoopbackServer) -> Sandbox:
    assert whole
    return prepare(undisturbed.sandbox, undisturbed, server)


@pytest.mark.parametrize("name", OVERCOME if ALL else ["reset", "wrong bytes"])
def test_what_passes_is_overcome_and_the_data_is_the_same(
    name: str, whole: dict[str, str], sandbox: Sandbox, server: LoopbackServer
) -> None:
    for path in server.files.keys() - {FOLDER}:
        server.faults[path] = list(OVERCOME[name])
    ended = sandbox.dvc("repro", "split")
    assert ended.status == 0, ended.said
    assert sum(map(len, server.faults.values())) == 0  # each was met
    assert sandbox.content() == whole


def test_an_image_that_comes_broken_is_asked_for_again_where_no_digest_tells(
    whole: dict[str, str], sandbox: Sandbox, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "digests", False)
    for path in server.files.keys() - {ANNOTATIONS, FOLDER}:
        server.faults[path] = [SHORT]
    ended = sandbox.dvc("repro", "split")
    assert ended.status == 0, ended.said
    assert sandbox.content() == whole


@pytest.mark.parametrize("name", GIVEN_UP if ALL else ["refused"])
def test_what_does_not_pass_is_a_line_and_the_next_run_is_whole(
    name: str, whole: dict[str, str], sandbox: Sandbox, server: LoopbackServer, record_property: Record
) -> None:
    fault, line = GIVEN_UP[name]
    for path in server.files.keys() - {ANNOTATIONS, FOLDER}:
        server.faults[path] = [fault] * 20
    ended = sandbox.dvc("repro", "split")
    assert ended.status != 0
    said = [said for said in ended.said.splitlines() if said.startswith("download_images: http")]
    assert len(said) == 1, ended.said
    assert line in said[0]
    assert "Traceback" not in ended.said
    record_property("figures", f"network {name}: {said[0].replace(server.url, 'http://…')}")
    server.faults.clear()
    ended = sandbox.dvc("repro", "split")
    assert ended.status == 0, ended.said
    assert sandbox.content() == whole
