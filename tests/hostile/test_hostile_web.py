"""Servers that send us elsewhere, answers without an end, archives that are traps; the servers are real."""

import gzip
import hashlib
import io
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import fsspec
import pytest
from hostile.test_hostile_annotations import instances
from hostile.test_hostile_images import HEIGHT, JPEG, WIDTH
from loopback import LoopbackServer, redirect
from sandbox import Sandbox

from cocoseg.core.files import read_table, write_json
from cocoseg.core.redaction import holds_secret
from cocoseg.download.remote.catalog import NAMED, Archive, NamedDataset
from cocoseg.download.remote.http import MOST_REDIRECTS
from cocoseg.download.remote.source import Source, TooLargeError
from cocoseg.tables import ImageRow

METADATA = "http://169.254.169.254/latest/meta-data/iam/security-credentials/"


def custom(sandbox: Sandbox, url: str, *, process: bool = False) -> tuple[int, str]:
    return sandbox.stage("download", {"dataset": "custom", "annotations": url, "images": ""}, process=process)


_PLAIN = "another host without https, which cannot be verified; this is not followed"
ELSEWHERE = {
    "the metadata of a cloud": (METADATA, f"redirects to http://169.254.169.254, {_PLAIN}"),
    "the same over https": (METADATA.replace("http:", "https:"), "which is at 169.254.169.254, not a public address"),
    "the same in IPv6": ("https://[fd00:ec2::254]/latest/", "which is at fd00:ec2::254, not a public address"),
    "the same as IPv4 in IPv6": ("https://[::ffff:a9fe:a9fe]/", "which is at ::ffff:a9fe:a9fe, not a public address"),
    "a private network": ("https://10.0.0.1/a.json", "which is at 10.0.0.1, not a public address"),
    "this machine by its name": ("https://localhost:1/a.json", "redirects to https://localhost:1, which is at "),
    "this machine by a number": ("https://2130706433:1/a.json", "which is at 127.0.0.1, not a public address"),
    "this machine by another number": ("https://0177.1:1/a.json", "which is at 127.0.0.1, not a public address"),
    "another host": ("http://example.org/a.json", f"redirects to http://example.org, {_PLAIN}"),
    "another host, without a scheme": ("//example.org/a.json", f"redirects to http://example.org, {_PLAIN}"),
    "a host that looks like ours": ("http://127.0.0.1.example.org/", "redirects to http://127.0.0.1.example.org, an"),
    "ours as the user of another": ("http://127.0.0.1@example.org/", f"redirects to http://example.org, {_PLAIN}"),
    "a file of this machine": ("file:///etc/passwd", "redirects to file:, another scheme; this is not followed"),
    "a text in the address": ("data:text/plain,hello", "redirects to data:, another scheme; this is not followed"),
    "another protocol": ("ftp://example.org/a.json", "redirects to ftp:, another scheme; this is not followed"),
    "no address": ("http://[/", "redirects to an invalid URL"),
    "itself, for ever": ("/a.json", "redirects more than 10 times; open it in a browser"),
}  # fmt: skip


@pytest.mark.parametrize(("what", "target", "line"), [(key, *value) for key, value in ELSEWHERE.items()])
def test_a_server_that_sends_us_elsewhere_is_one_line(sandbox: Sandbox, what: str, target: str, line: str) -> None:
    with LoopbackServer({}) as server:
        server.answers["a.json"] = redirect(target)
        status, seen = custom(sandbox, f"{server.url}/a.json", process=what == "the metadata of a cloud")

        assert status == 1
        assert seen.startswith(f"{server.url}/a.json: ")
        assert line in seen
        assert len(server.log) == (MOST_REDIRECTS + 1 if target == "/a.json" else 1)  # not tried again
        sandbox.tell("redirect to", f"{what}: {target[:50]}", seen.replace(server.url, "http://127.0.0.1:8000"))
    assert not (sandbox.work / "data/raw").exists()


def test_an_image_server_that_sends_us_elsewhere_stops_the_stage(sandbox: Sandbox) -> None:
    image = {"id": 1, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT}
    write_json(sandbox.work / "data/filtered/instances.json", {"images": [image], "annotations": [], "categories": []})
    with LoopbackServer({}) as server:
        server.answers["a.jpg"] = redirect(METADATA, 307)
        params = {"dataset": "custom", "exif": "auto", "images": server.url}
        status, seen = sandbox.stage("download_images", params, process=True)
        assert status == 1
        assert f"a.jpg: redirects to http://169.254.169.254, {_PLAIN}; if you trust it, name that" in seen
        sandbox.tell(
            "redirect to", "the metadata of a cloud, for an image", seen.replace(server.url, "http://127.0.0.1:8000")
        )


def test_a_server_may_send_us_to_another_place_of_its_own(sandbox: Sandbox) -> None:
    with LoopbackServer({"c.json": instances()}) as other, LoopbackServer({}) as server:
        server.answers["a.json"] = redirect("/b.json", 301)
        server.answers["b.json"] = redirect(f"{other.url}/c.json")  # another port, as of a store beside it
        assert custom(sandbox, f"{server.url}/a.json")[0] == 0


HEAD = b"HTTP/1.1 200 OK\r\n"


def endless() -> Iterator[bytes]:
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    yield from repeat(b"100000\r\n" + b" " * 0x100000 + b"\r\n")


def without_length() -> Iterator[bytes]:
    yield HEAD + b"Connection: close\r\n\r\n"
    yield from repeat(b" " * 0x100000)


def longer_than_declared() -> Iterator[bytes]:
    yield HEAD + b"Content-Length: 10\r\n\r\n" + b" " * 100_000


def shorter_than_declared() -> Iterator[bytes]:
    yield HEAD + b"Content-Length: 100000\r\n\r\n" + b" " * 10


def declared_huge() -> Iterator[bytes]:
    yield HEAD + b"Content-Length: 5000000000\r\n\r\n"
    yield from repeat(b" " * 0x100000)


def gzip_bomb() -> Iterator[bytes]:
    body = gzip.compress(bytes(100_000_000), 1)
    yield HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body


LIMIT = 20_000_000
ANSWERS: dict[str, tuple[Callable[[], Iterator[bytes]], str]] = {
    "an answer without an end": (endless, "is too large; expected at most 20,000,000 bytes"),
    "an answer without a length or an end": (without_length, "is too large; expected at most 20,000,000 bytes"),
    "5 GB, declared": (declared_huge, "is too large; expected at most 20,000,000 bytes"),
    "100 MB of zeros in 0.5 MB of gzip": (gzip_bomb, "is too large; expected at most 20,000,000 bytes"),
    "more bytes than declared": (
        longer_than_declared,
        "the answer is not valid HTTP, after 2 attempts; run",
    ),
    "fewer bytes than declared": (shorter_than_declared, "payload is not completed"),
    "a body that is no HTTP": (lambda: iter([b" " * 100]), "the answer is not valid HTTP, after 2 attempts; run again"),
}


@pytest.mark.parametrize(
    ("what", "answer", "line"), [(key, *value) for key, value in ANSWERS.items()], ids=list(ANSWERS)
)
def test_an_answer_is_read_up_to_a_bound(
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    answer: Callable[[], Iterator[bytes]],
    line: str,
) -> None:
    monkeypatch.setattr(Source.fetch, "__defaults__", ("", None, None, LIMIT))  # 4 GB take too long
    monkeypatch.setattr(Source.__init__, "__defaults__", ((0.0,), 5.0))
    with LoopbackServer({}) as server:
        server.answers["a.json"] = answer
        status, seen = custom(sandbox, f"{server.url}/a.json")
        sandbox.tell("answer", what, seen.replace(server.url, "http://127.0.0.1:8000"))
    assert status == 1
    assert line in seen
    assert not (sandbox.work / "data/raw").exists()


def test_an_image_without_an_end_is_counted_and_costs_itself_alone(sandbox: Sandbox) -> None:
    images = [
        {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT}
        for number, name in enumerate(("good.jpg", "strange.jpg"))
    ]
    write_json(sandbox.work / "data/filtered/instances.json", {"images": images, "annotations": [], "categories": []})
    with LoopbackServer({"good.jpg": JPEG}) as server:
        server.answers["strange.jpg"] = endless
        params = {"dataset": "custom", "exif": "auto", "images": server.url}
        assert sandbox.stage("download_images", params, process=True)[0] == 0
    rows = read_table(sandbox.work / "data/images.csv", ImageRow)
    assert [row.status for row in rows] == ["ok", "too_large"]
    sandbox.tell("answer", "an image without an end", "status in data/images.csv: too_large")


def test_another_file_system_is_read_up_to_a_bound_too(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe(f"{tmp_path}/a.json", bytes(1001))
    with Source(f"memory://{tmp_path}") as source:
        assert source.fetch("a.json", most_bytes=1001) == bytes(1001)
        assert source.fetch("a.json", 5, 8) == bytes(3)
        with pytest.raises(TooLargeError, match=r"a\.json: is too large; expected at most 1,000 bytes"):
            source.fetch("a.json", most_bytes=1000)


ADDRESSES = {
    "a chain that unpacks": (
        "zip://a.json::http://127.0.0.1:1/a.zip",
        "is a chain of URLs; download and unpack the file",
    ),
    "a chain through a cache": (
        "simplecache::http://127.0.0.1:1/a.json",
        "is a chain of URLs; download and unpack the file",
    ),
    "a protocol that nobody has": ("gopher://127.0.0.1/a.json", "ValueError: Protocol not known: gopher; expected a"),
    "a password": ("https://me:canary-password@example.org/a.json", "annotations is an address on example.org with a"),
    "a token as the user": ("https://canary-token@example.org/a.json", "annotations is an address on example.org with"),
    "a signature": (
        "https://example.org/a.json?X-Amz-Signature=canary-signature",
        "annotations is an address on exampl",
    ),
    "keys of a store": (
        "s3://KEY:canary-secret@bucket/a.json",
        "annotations is an address on bucket with a user, pass",
    ),
}


@pytest.mark.parametrize(("what", "address", "line"), [(key, *value) for key, value in ADDRESSES.items()])
def test_an_address_that_is_a_trap_or_holds_a_secret_is_one_line(
    sandbox: Sandbox, what: str, address: str, line: str
) -> None:
    status, seen = custom(sandbox, address)

    assert status == 1
    assert line in seen
    assert "canary-" not in seen
    sandbox.tell("address", what, seen)


def test_what_of_an_address_may_be_a_secret() -> None:
    for plain in (
        "data/a.json",
        "/a@b/c?.json",
        "https://a.org/x@2/a.json",
        "s3://bucket/a.json",
        "ssh://me@host/a.json",
    ):
        assert not holds_secret(plain)
    for secret in (
        "HTTPS://me@a.org/",
        "ssh://me:word@host/a",
        "https://a.org/a?b",
        "https://a.org/a#token=b",
        "s3://a:b/c@bucket/x",  # keys of AWS hold slashes
    ):
        assert holds_secret(secret)


def test_a_password_in_netrc_reaches_its_server_and_no_line(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = sandbox.strange / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password canary-password\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with LoopbackServer({"a.json": instances()}) as server:
        assert custom(sandbox, f"{server.url}/a.json")[0] == 0
        assert server.passwords == ["Basic bWU6Y2FuYXJ5LXBhc3N3b3Jk"]
    assert b"canary-password" not in (sandbox.work / "data/raw/instances.json").read_bytes()


MEMBER = "annotations/instances_val2017.json"


def zipped(files: dict[str, bytes | str], **fields: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            for field, value in fields.items():
                setattr(info, field, value)
            archive.writestr(info, content)
    return file.getvalue()


def patched(data: bytes, local: int, central: int, value: bytes) -> bytes:
    """An archive of one file with `value` at these places of its two headers."""
    for signature, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        at = data.rindex(signature) + offset
        data = data[:at] + value + data[at + len(value) :]
    return data


def twice() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(MEMBER, instances())
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(MEMBER, b"{}")
    return file.getvalue()


PLAIN = zipped({MEMBER: instances()})
ARCHIVES: dict[str, tuple[bytes, str | None]] = {
    "a file that climbs, beside": (zipped({"../../canary/photo.jpg": b"mine", MEMBER: instances()}), None),
    "an absolute path, beside": (zipped({"/tmp/cocoseg-canary": b"mine", MEMBER: instances()}), None),
    "a link to a file of this machine": (
        zipped({MEMBER: "/etc/passwd"}, external_attr=(stat.S_IFLNK | 0o777) << 16, create_system=3),
        "annotations/instances_val2017.json: is not JSON: ",
    ),
    "a size below the true one": (patched(PLAIN, 22, 24, struct.pack("<I", 10)), "Bad CRC-32 for file"),
    "a size above the true one": (patched(PLAIN, 22, 24, struct.pack("<I", 10**6)), None),
    "a size of 4.1 GB": (patched(PLAIN, 22, 24, struct.pack("<I", 4_100_000_000)),
                         "has 4,100,000,000 bytes, expected at most 4,000,000,000; delete it and run"),
    "100 MB of blanks in 0.1 MB": (zipped({MEMBER: b" " * 100_000_000}), "is empty (100000000 bytes)"),
    "one name twice": (twice(), "contains annotations/instances_val2017.json twice; delete it and run"),
    "another name": (zipped({"instances.json": b"{}"}), "contains no annotations/instances_val2017.json; delete it"),
    "another name in front of the file": (PLAIN[:30] + b"X" + PLAIN[31:], "File name in directory"),
    "a password": (patched(PLAIN, 6, 8, b"\x01"), "is encrypted, password required"),
    "a compression that nobody has": (patched(PLAIN, 8, 10, struct.pack("<H", 98)), "That compression method is not"),
    "a compressed stream of noise": (PLAIN[:70] + b"\xff" * 20 + PLAIN[90:], "delete it and run: dvc repro download"),
    "an archive in the archive": (zipped({MEMBER: PLAIN}), "is a zip archive; unpack it"),
    "no archive": (b"MZ" + bytes(1000), "File is not a zip file; delete it and run"),
    "half an archive": (PLAIN[: len(PLAIN) // 2], "File is not a zip file; delete it and run"),
}  # fmt: skip


def mirrored(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, data: bytes, sha256: str, *, size: int | None = None
) -> tuple[int, str]:
    """`download` of val2017 from a mirror that has this archive, as if it were published with that SHA-256."""
    archive = Archive(path="annotations/a.zip", bytes=len(data) if size is None else size, sha256=sha256)
    dataset = NamedDataset(annotations=archive, splits=("val2017",))
    monkeypatch.setitem(NAMED, "coco2017-val", dataset)
    with LoopbackServer({"annotations/a.zip": data}) as server:
        monkeypatch.setenv("COCOSEG_COCO_URL", server.url)
        status, line = sandbox.stage("download", {"dataset": "coco2017-val", "annotations": "", "images": ""})
        return status, line.replace(server.url, "http://127.0.0.1:8000")


@pytest.mark.parametrize(
    ("what", "data", "line"), [(key, *value) for key, value in ARCHIVES.items()], ids=list(ARCHIVES)
)
def test_an_archive_is_read_one_file_at_a_time_and_never_unpacked(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, what: str, data: bytes, line: str | None
) -> None:
    status, seen = mirrored(sandbox, monkeypatch, data, hashlib.sha256(data).hexdigest())

    if line is None:
        assert status == 0
        assert (sandbox.work / "data/raw/instances.json").read_bytes() == instances()
        seen = "nothing: only the annotations are read, and nothing is unpacked"
    else:
        assert status == 1
        assert line in seen
        assert not (sandbox.work / "data/raw").exists()
    files = {path.relative_to(sandbox.cache).as_posix() for path in sandbox.cache.rglob("*") if path.is_file()}
    assert files == {"archives/a.zip", "archives/a.zip.lock"}
    assert not Path("/tmp/cocoseg-canary").exists()
    sandbox.tell("archive", what, seen)


def test_an_archive_that_is_not_the_published_one_is_not_kept(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, line = mirrored(sandbox, monkeypatch, PLAIN, "0" * 64)

    assert status == 1
    assert f"its SHA-256 is {hashlib.sha256(PLAIN).hexdigest()}, expected {'0' * 64}; it was not kept" in line
    assert [path.name for path in sandbox.cache.rglob("*") if path.is_file()] == ["a.zip.lock"]
    sandbox.tell("archive", "another archive than the published one", line)


def test_a_mirror_that_has_a_smaller_archive_is_one_line_of_the_script(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LoopbackServer({"annotations/annotations_trainval2017.zip": PLAIN}) as server:
        monkeypatch.setenv("COCOSEG_COCO_URL", server.url)
        params = {"dataset": "coco2017-val", "annotations": "", "images": ""}
        status, line = sandbox.stage("download", params, process=True)
        sandbox.tell("archive", "a mirror with another archive", line.replace(server.url, "http://127.0.0.1:8000"))
    assert status == 1
    assert f"the server sent {len(PLAIN)} bytes for bytes 0 to 8388607 of a file of 252907541" in line
