"""Annotations: fetched, verified, merged; each bad input one line."""

import gzip
import hashlib
import io
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from loopback import LoopbackServer
from stage_runs import run_stage

from cocoseg.coco.format import Instances
from cocoseg.core.errors import CocosegError
from cocoseg.download.annotations import (
    custom_instances,
    merge_instances,
    named_instances,
    read_member,
    verify_instances,
)
from cocoseg.download.remote.catalog import Archive, NamedDataset


def instances(*image_ids: int, categories: tuple[str, ...] = ("person",)) -> dict[str, Any]:
    return {
        "info": {"year": 2017},
        "images": [{"id": id_, "file_name": f"{id_}.jpg", "width": 4, "height": 3} for id_ in image_ids],
        "annotations": [{"id": 10 * id_, "image_id": id_, "category_id": 1} for id_ in image_ids],
        "categories": [{"id": number, "name": name} for number, name in enumerate(categories, 1)],
    }


GOOD = json.dumps(instances(1)).encode()


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        (b"", r"a\.json: is empty \(0 bytes\)"),
        (b" \n", r"a\.json: is empty \(2 bytes\)"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5\n",
            "git-LFS pointer.*run: git lfs pull",
        ),
        (gzip.compress(GOOD), "is a gzip archive; unpack it"),
        (b"PK\x03\x04rest", "is a zip archive; unpack it"),
        (b"<!DOCTYPE html><html></html>", "is a web page or XML, not JSON"),
        (GOOD[:100], "is truncated: the JSON ends early, after 100 bytes"),
        (b'{"images": [1, nonsense]}', r"is not JSON: JSON is malformed: .* \(byte 16\)"),
        (GOOD + b"\n" + GOOD, "is not JSON: .*trailing characters .*; join the objects of JSON Lines into one"),
        (lzma.compress(GOOD), "is not text, or not in UTF-8; unpack it if it is packed"),
        (GOOD.decode().encode("utf-16-le"), "is not text, or not in UTF-8; .* save it as UTF-8 if it is UTF-16"),
        (b'{"images": [{"area": NaN}]}', "has no 'annotations', found images;"),
        (b'{"images": [{"area": NaN}, nonsense]}', r"is not JSON: .*\(byte 21\)"),
        (b"\xff\xd8\xff\xe0", "byte 0 is not UTF-8"),
        (
            b'{"images": [], "categories": [], "annotations": [{"file_name": "1.png", "segments_info": []}]}',
            "is COCO's panoptic format, whose shapes lie in PNG files; expected its instances format; convert it with",
        ),
        (b"[]", "is a list, not COCO's instances format; expected one object with images, annotations, categories"),
        (b'[{"images": [], "categories": []}]', "is a list of objects with images, categories, not COCO's instances"),
        (b"3", "is a number, not COCO's"),
        (b'{"images": [], "annotations": [], "info": {}}', "has no 'categories', found images, annotations, info;"),
        (b"{}", "has no 'images', found nothing"),
        (b'{"images": {}, "annotations": [], "categories": []}', "'images' is an object; expected a list"),
        (b'{"images": [], "annotations": null, "categories": []}', "'annotations' is null; expected a list"),
    ],
)
def test_what_is_not_coco_is_one_line(raw: bytes, line: str) -> None:
    with pytest.raises(CocosegError, match=line) as caught:
        verify_instances(raw, "a.json")
    assert "\n" not in str(caught.value)


def test_single_bad_entries_are_not_this_stages_work() -> None:
    raw = b'{"images": [7, null], "annotations": ["x"], "categories": [], "extra": 1}'

    assert list(verify_instances(raw, "a.json")) == ["images", "annotations", "categories", "extra"]


def test_nan_is_a_single_bad_entry_too() -> None:
    raw = b'{"images": [], "annotations": [{"id": 1, "area": NaN}, {"id": 2, "area": -Infinity}], "categories": []}'

    assert list(verify_instances(raw, "a.json")) == ["images", "annotations", "categories"]


def test_a_custom_file_is_taken_byte_by_byte(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(GOOD)

    assert custom_instances(str(tmp_path / "a.json")) == GOOD
    assert custom_instances(f"file://{tmp_path}/a.json") == GOOD
    with LoopbackServer({"a.json": GOOD}) as server:
        assert custom_instances(f"{server.url}/a.json") == GOOD


def test_a_byte_order_mark_goes(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + GOOD)

    assert custom_instances(str(tmp_path / "a.json")) == GOOD


def test_a_custom_file_that_is_missing_or_a_folder_or_without_images_says_how_to_name_one(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(instances()))
    for place, found in (
        (tmp_path / "b.json", "not found"),
        (tmp_path, "Is a dir"),
        (tmp_path / "a.json", "no images"),
    ):
        with pytest.raises(
            CocosegError,
            match=rf"{found}.*; (on pulled data: .*else )?put a COCO .* -S annotations=/path/instances\.json",
        ):
            custom_instances(str(place))
    with (
        LoopbackServer({}) as server,
        pytest.raises(CocosegError, match=r"a\.json: not found \(the server answered 404\)"),
    ):
        custom_instances(f"{server.url}/a.json")


def archive_of(contents: dict[str, dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, json.dumps(content))
    return file.getvalue()


TRAIN, VAL = "annotations/instances_train2017.json", "annotations/instances_val2017.json"


def dataset_of(data: bytes, *splits: str) -> NamedDataset:
    digest = hashlib.sha256(data).hexdigest()
    return NamedDataset(annotations=Archive(path="annotations/a.zip", bytes=len(data), sha256=digest), splits=splits)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COCOSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_named_dataset_is_one_member_of_its_archive_which_is_fetched_once(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = archive_of({TRAIN: instances(1, 2), VAL: instances(3)})
    with LoopbackServer({"coco/annotations/a.zip": data}) as server:
        monkeypatch.setenv("COCOSEG_COCO_URL", f"{server.url}/coco")

        assert json.loads(named_instances(dataset_of(data, "val2017"))) == instances(3)
        assert json.loads(named_instances(dataset_of(data, "train2017"))) == instances(1, 2)
        assert server.asked_for() == ["coco/annotations/a.zip"]
    assert (cache / "archives" / "a.zip").read_bytes() == data


@pytest.mark.usefixtures("cache")
def test_train_and_val_together_keep_all_entries_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    data = archive_of({TRAIN: instances(1, 2), VAL: instances(3)})
    with LoopbackServer({"annotations/a.zip": data}) as server:
        monkeypatch.setenv("COCOSEG_COCO_URL", server.url)
        raw = named_instances(dataset_of(data, "train2017", "val2017"))

    assert json.loads(raw) == instances(1, 2, 3)
    assert msgspec.json.decode(raw, type=Instances).images[2].file_name == "3.jpg"


@pytest.mark.usefixtures("cache")
def test_an_archive_with_another_checksum_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = archive_of({VAL: instances(3)})
    with LoopbackServer({"annotations/a.zip": data[:-1] + b"x"}) as server:
        monkeypatch.setenv("COCOSEG_COCO_URL", server.url)
        with pytest.raises(CocosegError, match="its SHA-256 is .*, expected"):
            named_instances(dataset_of(data, "val2017"))


def test_a_cache_that_cannot_be_written_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    (cache / "archives").touch()  # a file where the folder should be
    monkeypatch.setenv("COCOSEG_COCO_URL", "http://127.0.0.1:1")
    with pytest.raises(CocosegError, match=r"archives/a\.zip: .*; fix that, or name another cache with COCOSEG_CACHE"):
        named_instances(dataset_of(b"data", "val2017"))


def test_files_with_different_categories_are_not_merged() -> None:
    parts = [json.dumps(instances(1)).encode(), json.dumps(instances(2, categories=("dog",))).encode()]

    with pytest.raises(CocosegError, match=r"b\.json: its categories differ from those of a\.json"):
        merge_instances(parts, ["a.json", "b.json"])


def test_an_archive_without_the_member_or_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(archive_of({VAL: instances(3)}))
    with pytest.raises(CocosegError, match=r"a\.zip: contains no annotations/instances_train2017\.json; delete it"):
        read_member(tmp_path / "a.zip", TRAIN)

    (tmp_path / "a.zip").write_bytes(b"no zip")
    with pytest.raises(CocosegError, match=r"a\.zip: File is not a zip file; delete it"):
        read_member(tmp_path / "a.zip", TRAIN)


def test_the_stage_writes_the_drawn_sample_twice_alike(tmp_path: Path) -> None:
    raw = []
    for _ in range(2):
        status, lines = run_stage(tmp_path, "download", {"dataset": "sample", "annotations": "", "images": ""}, {})
        assert (status, lines) == (0, ["download: data/raw/instances.json, 2.0 MB"])
        raw.append((tmp_path / "data/raw/instances.json").read_bytes())

    assert raw[0] == raw[1]
    assert len(verify_instances(raw[0], "raw")) >= 3


def test_the_stage_without_a_network_is_one_line_and_writes_nothing(tmp_path: Path) -> None:
    with LoopbackServer({}) as server:
        url = server.url
    params = {"dataset": "coco2017-val", "annotations": "", "images": ""}
    environment = {"COCOSEG_COCO_URL": url, "COCOSEG_CACHE": str(tmp_path / "cache")}

    status, lines = run_stage(tmp_path, "download", params, environment)

    assert status == 1
    assert lines[0] == f"download: annotations/annotations_trainval2017.zip, 0.3 GB, from {url}"
    assert f"{url}/annotations/annotations_trainval2017.zip: 127.0.0.1 cannot be reached" in lines[1]
    assert len(lines) == 2
    assert not (tmp_path / "data/raw").exists()


def test_the_stage_refuses_an_unknown_dataset_with_the_known_ones(tmp_path: Path) -> None:
    status, lines = run_stage(tmp_path, "download", {"dataset": "coco2018", "annotations": "", "images": ""}, {})

    assert status == 1
    assert "params.yaml: dataset is 'coco2018'; expected one of " in lines[0]
    assert "coco2017" in lines[0]


def test_keys_that_are_not_cocos_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "a.json"
    place.write_text(json.dumps(instances(1) | {"type": "instances", "licenses": []}))
    custom_instances(str(place))
    assert capsys.readouterr().err == ""
    place.write_text(json.dumps(instances(1) | {"ignored_regions": [], "two\nlines": 3}))
    assert custom_instances(str(place)) == place.read_bytes()
    assert capsys.readouterr().err == (
        f"download: {place}: not COCO's, and not read: ignored_regions, 'two\\nlines'; to ignore a region, write an "
        "annotation with iscrowd: 1\n"
    )
    place.write_text(json.dumps(instances(1)).replace('"file_name"', '"filename"'))
    custom_instances(str(place))
    told = f"download: {place}: the first of 'images' has the key 'filename': did you mean file_name?\n"
    assert capsys.readouterr().err == told


def test_what_lvis_leaves_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "a.json"
    place.write_text(json.dumps(instances(1)).replace('"width"', '"not_exhaustive_category_ids": [1], "width"'))
    custom_instances(str(place))
    assert capsys.readouterr().err == (
        f"download: {place}: as LVIS, not every object of a class is annotated in every image: what is not is "
        "background\n"
    )


def test_entries_by_their_ids_as_in_livecell_are_the_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place, content = tmp_path / "a.json", instances(1, 2)
    place.write_text(json.dumps(content | {"annotations": {str(one["id"]): one for one in content["annotations"]}}))
    assert json.loads(custom_instances(str(place))) == content
    assert ": annotations: an object, as LIVECell has; its values are taken for the list\n" in capsys.readouterr().err
    for lost in ("person", {"name": "person"}):
        place.write_text(json.dumps(content | {"categories": {"1": lost}}))
        with pytest.raises(CocosegError, match="'categories' is an object; expected a list"):
            custom_instances(str(place))


@pytest.mark.parametrize("objects", [1, 30_000], ids=["small", "large"])
def test_a_list_that_is_there_twice_is_refused(objects: int) -> None:
    content = instances(*range(objects))
    raw = json.dumps(content)
    twice = raw[:-1] + f', "annotations": {json.dumps(content["annotations"][:1])}}}'
    assert (len(twice) > 2**20) is (objects > 1)
    verify_instances(raw.encode(), "a.json")
    verify_instances(json.dumps(content, indent=4).encode() + b"\n" * 1000, "a.json")
    with pytest.raises(CocosegError, match=r"^a\.json: has 2 lists 'annotations', of which only the last"):
        verify_instances(twice.encode(), "a.json")
