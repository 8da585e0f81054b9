"""Annotations, file names and parameters from strangers: refused in one line or counted, nothing else written."""

import gzip
import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sandbox import Sandbox

from cocoseg.core.files import write_bytes, write_table
from cocoseg.tables import ImageRow

IMAGE = {"id": 1, "file_name": "good.jpg", "width": 24, "height": 16}
ANNOTATION = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 9, 1, 9, 6, 1, 6]]}
CATEGORY = {"id": 1, "name": "cat"}
FILTER = {
    "classes": [],
    "crowd": "ignore",
    "data_seed": 0,
    "images": "images",
    "licenses": None,
    "lost": "ignore",
    "max_defects": 1,
    "max_skipped": 1,
    "max_images": None,
    "max_instances": None,
    "min_area_px": 0,
    "negatives": "drop",
    "on_defect": "count",
}
MASK = {
    "crowd": "ignore",
    "gallery_images": 0,
    "instance_masks": True,
    "lost": "ignore",
    "max_defects": 1,
    "max_skipped": 0.9,
    "negatives": "drop",
    "on_defect": "count",
    "out_of_bounds": "clip",
    "overlap": "last",
    "priority": [],
    "task": "multiclass",
}


def instances(
    images: tuple[dict[str, Any], ...] = (), annotations: tuple[Any, ...] = (), categories: tuple[Any, ...] = ()
) -> bytes:
    """A good file, and these entries beside the good ones; bytes stand for themselves."""
    lists = {
        "images": [IMAGE, *images],
        "annotations": [ANNOTATION | {"area": 40}, *annotations],
        "categories": [CATEGORY, *categories],
    }
    inside = {
        key: b",".join(entry if isinstance(entry, bytes) else json.dumps(entry).encode() for entry in entries)
        for key, entries in lists.items()
    }
    return b"{" + b",".join(b'"%b":[%b]' % (key.encode(), text) for key, text in inside.items()) + b"}"


def with_annotation(**fields: Any) -> bytes:
    return instances(annotations=(ANNOTATION | {"id": 2, "area": 40} | fields,))


def with_image(**fields: Any) -> bytes:
    """A second image, which has an annotation."""
    return instances(
        (IMAGE | {"id": 2, "file_name": "b.jpg"} | fields,), (ANNOTATION | {"id": 2, "image_id": 2, "area": 40},)
    )


def of_two(**fields: Any) -> bytes:
    """A second category, which has an annotation."""
    return instances((), (ANNOTATION | {"id": 2, "category_id": 2, "area": 40},), ({"id": 2} | fields,))


def zip_of(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return file.getvalue()


LAUGHS = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><l>&b;</l>'
DEEP = b"[" * 100_000 + b"]" * 100_000

REFUSED: list[tuple[str, bytes, str]] = [
    ("lists 100,000 deep", b'{"images":' + DEEP + b"}", "strange.json: is nested too deeply; expected a COCO"),
    ("objects 100,000 deep", b'{"a":' * 100_000, "strange.json: is nested too deeply"),
    ("a segmentation 100,000 lists deep", instances(annotations=(b'{"id":2,"segmentation":' + DEEP + b"}",)),
     "is nested too deeply"),
    ("a list at the top", b"[1, 2]", "strange.json: is a list, not COCO's instances format"),
    ("images an object", b'{"images": {}, "annotations": [], "categories": []}', "'images' is an object; expected a l"),
    ("bytes that are no UTF-8", instances() + b"\xff\xfe", "is not UTF-8, the encoding of JSON"),
    ("UTF-16", instances().decode().encode("utf-16"), "is not text, or not in UTF-8; unpack it"),
    ("NUL bytes", bytes(1000), "strange.json: is not text, or not in UTF-8"),
    ("half of a character in a file_name", with_image(file_name="\ud800.jpg"), "is not JSON: JSON is malformed"),
    ("nothing", b"", "strange.json: is empty (0 bytes)"),
    ("cut off", instances()[:-9], "strange.json: is truncated"),
    ("XML that multiplies entities", LAUGHS, "is a web page or XML, not JSON"),
    ("a page that asks for a login", b"<!DOCTYPE html><form></form>", "is a web page or XML, not JSON"),
    ("gzip of 100 MB of zeros", gzip.compress(bytes(1_000_000), 1) * 100, "is a gzip archive; unpack it"),
    ("a zip that climbs", zip_of("../../canary/photo.jpg", b"mine"), "is a zip archive; unpack it"),
    ("a git-LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "is a git-LFS pointer"),
    ("the key images twice, once empty", b'{"images":[1],' + instances()[1:-1] + b',"images":[]}', "has 3 lists 'i"),
    ("two categories of one id", instances(categories=({"id": 1, "name": "dog"},)), "two categories have the id 1"),
    ("two categories of one name", of_two(name="cat"), "two categories are named 'cat'"),
    ("a class named background", of_two(name="background"), "is named 'background', as"),
    ("300,000 categories",
     instances(categories=tuple(b'{"id":%d,"name":"c%d"}' % (n, n) for n in range(2, 300_002))),
     "300001 categories; a mask holds 1 to 254"),
]  # fmt: skip

COUNTED: list[tuple[str, bytes, str]] = [
    ("an id of a million digits", instances(annotations=(b'{"id":' + b"9" * 1_000_000 + b"}",)),
     "annotations unknown_image"),
    ("an image_id of 1e30", with_annotation(image_id=1e30), "annotations unknown_image"),
    ("an image_id that is true", with_annotation(image_id=True), "annotations unknown_image"),
    ("an image_id of 1.5", with_annotation(image_id=1.5), "annotations unknown_image"),
    ("an image_id of nowhere", with_annotation(image_id=-(2**63)), "annotations unknown_image"),
    ("an area of NaN", with_annotation(area=float("nan")), "annotations no_usable_area"),
    ("an area of 1e999", instances(annotations=(json.dumps(ANNOTATION | {"id": 2})[:-1].encode() + b',"area":1e999}',)),
     "annotations no_usable_area"),
    ("an area that is a list", with_annotation(area=[1]), "annotations no_usable_area"),
    ("an entry that is a text of 20 MB", instances(annotations=(b'"%b"' % (b"x" * 20_000_000),)),
     "annotations not_an_object"),
    ("iscrowd of 10^18", with_annotation(iscrowd=10**18), "annotations bad_iscrowd"),
    ("a width below 0", with_image(width=-1), "images bad_size"),
    ("a width of a billion", with_image(width=10**9), "images bad_size"),
    ("a file_name that is a number", with_image(file_name=7), "images bad_file_name"),
    ("a class named with codes for the terminal", instances(categories=({"id": 2, "name": "\x1b[2Jcat"},)),
     "categories bad_name"),
    ("a class named over two lines", instances(categories=({"id": 2, "name": "a\nb"},)), "categories bad_name"),
    ("a class of 10,000 letters", instances(categories=({"id": 2, "name": "a" * 10_000},)), "categories bad_name"),
    ("a class written from right to left", instances(categories=({"id": 2, "name": "a\u202eb"},)),
     "categories bad_name"),
]  # fmt: skip


def download_and_filter(sandbox: Sandbox, annotations: Path, *, process: bool = False) -> tuple[int, str]:
    params = {"dataset": "custom", "annotations": str(annotations), "images": ""}
    status, line = sandbox.stage("download", params, process=process)
    return (status, line) if status else sandbox.stage("filter", FILTER, process=process)


def ends_well(result: tuple[int, str]) -> bool:
    """Return whether a stage ended with its account alone: one line of text that no terminal obeys."""
    status, line = result
    return status == 0 and " kept" in line and line.isprintable() and len(line) < 1000


def counted(sandbox: Sandbox) -> str:
    """What the metrics of `filter` count, in words."""
    metrics = json.loads((sandbox.work / "metrics/filter.json").read_bytes())
    assert metrics["images"]["kept"] >= 1
    return ", ".join(
        f"{noun} {reason}: {count}"
        for noun in ("images", "annotations", "categories")
        for reason, count in metrics[noun]["dropped"].items()
        if count
    )


@pytest.mark.parametrize(("what", "content", "line"), REFUSED, ids=[what for what, _, _ in REFUSED])
def test_a_file_that_is_not_coco_is_one_line(sandbox: Sandbox, what: str, content: bytes, line: str) -> None:
    place = sandbox.strange / "strange.json"
    place.write_bytes(content)

    status, seen = download_and_filter(sandbox, place, process=what == "lists 100,000 deep")

    assert status == 1
    assert line in seen
    assert len(seen) < 400
    assert not (sandbox.work / "data/filtered").exists()
    sandbox.tell("JSON", what, seen)


@pytest.mark.parametrize(("what", "content", "reason"), COUNTED, ids=[what for what, _, _ in COUNTED])
def test_an_entry_that_is_none_costs_itself_alone(sandbox: Sandbox, what: str, content: bytes, reason: str) -> None:
    place = sandbox.strange / "strange.json"
    place.write_bytes(content)

    assert ends_well(download_and_filter(sandbox, place, process=what == "an image_id of 1e30"))
    assert reason in counted(sandbox)
    sandbox.tell("JSON", what, f"counted: {counted(sandbox)}")


def pipe(place: Path) -> None:
    os.mkfifo(place)


def endless(place: Path) -> None:
    place.symlink_to("/dev/zero")


def huge(place: Path) -> None:
    with place.open("wb") as file:
        file.truncate(5 * 10**9)


@pytest.mark.parametrize(
    ("what", "make", "line"),
    [
        ("a pipe", pipe, "is a pipe or device, not a file"),
        ("a link to a device without an end", endless, "is a pipe or device, not a file"),
        ("a file of 5 GB", huge, "has 5,000,000,000 bytes, expected at most 4,000,000,000"),
        ("a folder", Path.mkdir, "an empty folder, without label maps; expected PNG files"),
    ],
)
def test_what_is_no_file_of_a_sane_size_is_one_line(
    sandbox: Sandbox, what: str, make: Callable[[Path], None], line: str
) -> None:
    place = sandbox.strange / "strange.json"
    make(place)

    status, seen = download_and_filter(sandbox, place)

    assert status == 1
    way_out = " of one channel, named as" if what == "a folder" else "; put a COCO instances JSON there, or:"
    assert seen.startswith(f"{place}: {line}{way_out}")
    sandbox.tell("JSON", what, seen)


FILE_NAMES = {
    "climbing": "../canary/photo.jpg",
    "climbing from a folder": "a/../../canary/photo.jpg",
    "an absolute path": "/etc/passwd",
    "a drive": "C:\\Windows\\a.jpg",
    "a drive without a path": "C:a.jpg",
    "a share": "\\\\server\\share\\a.jpg",
    "backslashes": "..\\canary\\photo.jpg",
    "a home": "~/../b.jpg",
    "an address": "https://example.org/a.jpg",
    "a file: address": "file:///etc/passwd",
    "a chain of addresses": "zip://a.jpg::http://169.254.169.254/",
    "a NUL byte": "a\0.jpg",
    "a line end": "a\n../b.jpg",
    "codes for the terminal": "\x1b[2J.jpg",
    "a device": "CON",
    "a device with an extension": "sub/nul.tar.gz",
    "a numbered device": "COM¹.png",
    "a device of the console": "CONOUT$.jpg",
    "a stream of a drive": "a:stream.jpg",
    "a dot at the end": "a.jpg.",
    "a space at the end": "a.jpg ",
    "300 letters": "x" * 300 + ".jpg",
    "a thousand folders": "a/" * 1000 + "x.jpg",
    "a shell's wildcard": "*.jpg",
    "a pipe of the shell": "a|b.jpg",
    "letters turned round": "a\u202egpj.exe",
}


@pytest.mark.parametrize(("what", "name"), FILE_NAMES.items(), ids=list(FILE_NAMES))
def test_a_name_that_is_no_place_in_the_image_folder_is_counted(sandbox: Sandbox, what: str, name: str) -> None:
    place = sandbox.strange / "strange.json"
    place.write_bytes(with_image(file_name=name))

    assert ends_well(download_and_filter(sandbox, place, process=what == "climbing"))
    assert counted(sandbox) == "images unsafe_file_name: 1, annotations image_unsafe_file_name: 1"
    sandbox.tell("file_name", f"{what}: {ascii(name)[1:-1][:40]}", f"counted: {counted(sandbox)}")


TWINS = {
    "names that differ in case": ("photo.jpg", "PHOTO.jpg"),
    "names that differ in their code points": ("\u00e9t\u00e9.jpg", "e\u0301te\u0301.jpg"),
    "names that differ in their extension": ("photo.jpg", "photo.png"),
    "a file where a folder must be": ("photo.jpg", "photo.jpg/a.jpg"),
}


@pytest.mark.parametrize(("what", "names"), TWINS.items(), ids=list(TWINS))
def test_names_that_would_be_one_file_are_one_line(sandbox: Sandbox, what: str, names: tuple[str, str]) -> None:
    place = sandbox.strange / "strange.json"
    images = tuple(IMAGE | {"id": number, "file_name": name} for number, name in enumerate(names, 2))
    annotations = tuple(ANNOTATION | {"id": number, "image_id": number, "area": 9} for number in (2, 3))
    place.write_bytes(instances(images, annotations))

    status, line = download_and_filter(sandbox, place)

    assert status == 1
    assert "rename one of them" in line
    sandbox.tell("file_name", what, line)


def test_unicode_and_spaces_in_a_name_are_fine(sandbox: Sandbox) -> None:
    place = sandbox.strange / "strange.json"
    place.write_bytes(with_image(file_name="mon été/写真 1.jpg"))

    assert ends_well(download_and_filter(sandbox, place))
    assert counted(sandbox) == ""


SEGMENTATIONS = {
    "run lengths of 10^18 pixels": ({"size": [10**9, 10**9], "counts": [10**18]}, "rle_of_wrong_size"),
    "run lengths that sum too far": ({"size": [16, 24], "counts": [300, 85]}, "rle_counts_long"),
    "run lengths that sum short": ({"size": [16, 24], "counts": [3]}, "rle_counts_short"),
    "run lengths below 0": ({"size": [16, 24], "counts": [400, -16]}, "rle_bad_counts"),
    "compressed run lengths that end nowhere": ({"size": [16, 24], "counts": "ooooooooooo"}, "rle_undecodable"),
    "a polygon to 10^300": ([[0, 0, 1e300, 0, 1, 1]], "absurd_coordinates"),
    "a polygon to NaN": ([[0, 0, float("nan"), 0, 1, 1]], "non_finite_coordinates"),
    "a polygon of texts": ([["0", 0, 1, 0, 1, 1]], "polygon_of_non_numbers"),
}


def test_segmentations_that_lie_are_counted_and_paint_nothing(sandbox: Sandbox) -> None:
    place = sandbox.strange / "strange.json"
    entries = [
        ANNOTATION | {"id": number, "area": 40, "segmentation": segmentation}
        for number, (segmentation, _) in enumerate(SEGMENTATIONS.values(), 2)
    ]
    place.write_bytes(instances(annotations=tuple(entries)))
    assert download_and_filter(sandbox, place)[0] == 0
    row = ImageRow(image_id=1, file_name="good.jpg", status="ok", width=24, height=16)
    write_table(sandbox.work / "data/images.csv", [row], ImageRow)

    assert sandbox.stage("mask", MASK, process=True)[0] == 0
    dropped = json.loads((sandbox.work / "metrics/mask.json").read_bytes())["annotations"]["dropped"]
    for what, (_, reason) in SEGMENTATIONS.items():
        assert dropped[reason] == 1
        sandbox.tell("segmentation", what, f"counted: annotations {reason}: 1")


def laughs(levels: int) -> str:
    """A list of 10 to the power of `levels` words in `levels` lines."""
    lines = ["a0: &a0 [ha]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels + 1))]
    return "\n".join([*lines, f"annotations: *a{levels}", "dataset: sample"])


PARAMETERS = {
    "aliases that multiply": (laughs(30), "unknown parameter a0"),
    "a tag that runs code": ("dataset: !!python/object/apply:os.system [touch ../canary/x]", "could not determine a"),
    "lists 2,000 deep": ("dataset: " + "[" * 2000, "params.yaml: is nested too deeply; expected lines of 'key: value'"),
    "one key twice": ("dataset: sample\ndataset: custom", "found duplicate key"),
    "a list": ("[1, 2]", "expected lines of 'key: value', found list"),
    "bytes that are no text": ("dataset: \x01", "special characters are not allowed"),
}


@pytest.mark.parametrize(("what", "text", "line"), [(key, *value) for key, value in PARAMETERS.items()])
def test_parameters_that_are_none_are_one_line(sandbox: Sandbox, what: str, text: str, line: str) -> None:
    status, seen = sandbox.stage("download", {"annotations": "", "dataset": "", "images": ""}, text=text)

    assert status == 1
    assert line in seen
    assert len(seen) < 1200
    assert seen.count("\n") <= 11  # ten mistakes, and how many more
    sandbox.tell("params.yaml", what, seen)


def test_a_value_of_billions_of_entries_is_shown_in_short(sandbox: Sandbox) -> None:
    lists = laughs(30).partition("\nannotations")[0].replace("\n", ", ")
    text = f"dataset: {{{lists}}}\nannotations: ''\n"
    status, seen = sandbox.stage("download", {"annotations": "", "dataset": "", "images": ""}, text=text)

    assert status == 1
    assert seen.startswith("params.yaml: dataset is {'a0': ['ha'], 'a1': [[...], [...], ")
    assert len(seen) < 600
    sandbox.tell("params.yaml", "a value of 10^30 entries", seen)


def test_a_filtered_file_that_a_stranger_put_there_is_checked_again(sandbox: Sandbox) -> None:
    content = {"images": [IMAGE | {"file_name": "../../canary/photo.jpg"}], "annotations": [], "categories": []}
    write_bytes(sandbox.work / "data/filtered/instances.json", json.dumps(content).encode())

    status, line = sandbox.stage(
        "download_images", {"dataset": "custom", "exif": "auto", "images": str(sandbox.strange)}
    )

    assert status == 1
    assert (
        line
        == "image 1: file_name '../../canary/photo.jpg' is not a valid name below a folder; run: dvc repro -f filter"
    )
    sandbox.tell("file_name", "climbing, in the file that filter wrote", line)
