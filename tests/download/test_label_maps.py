"""A folder of label maps, as COCO annotations; each thing that is wrong with one is one line."""

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from cocoseg.core.errors import CocosegError
from cocoseg.download.annotations import custom_instances, instances_json
from cocoseg.download.label_maps import instances_of_maps, regions_of
from cocoseg.download.params import DownloadParams
from cocoseg.images.png import encode_png

MAP = np.array([[0, 1, 1], [255, 2, 1]], np.uint8)
NAMES = {"1": "person", "2": "car"}


def png(samples: Any, kind: int = 0, depth: int = 8, palette: bytes = b"") -> bytes:
    """A PNG of one channel from its stored samples: gray, or (kind 3) with a palette."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = np.asarray(samples, np.uint8)
    lines = b""
    for row in rows:
        bits = "".join(f"{sample:0{depth}b}" for sample in row.tolist())
        bits += "0" * (-len(bits) % 8)
        lines += b"\0" + bytes(int(bits[start : start + 8], 2) for start in range(0, len(bits), 8))
    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], depth, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"PLTE", palette) if palette else b"", chunk(b"IDAT", zlib.compress(lines))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def place(folder: Path, maps: dict[str, Any], names: Any = NAMES, images: list[str] | None = None) -> tuple[Path, Path]:
    """Write label maps, the names of their values, and a gray image of 3×2 for each, or those named."""
    for name, content in maps.items():
        path = folder / "labels" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else encode_png(np.asarray(content, np.uint8)))
    if isinstance(names, str):
        (folder / "labels/classes.txt").write_text(names)
    elif names is not None:
        (folder / "labels/classes.json").write_text(json.dumps(names))
    for name in images if images is not None else [f"{name[:-4]}.jpg" for name in maps]:
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(path.suffix, np.zeros((2, 3, 3), np.uint8))[1].tobytes())
    return folder / "labels", folder / "images"


def made(folder: Path, maps: dict[str, Any], names: Any = NAMES, images: list[str] | None = None) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(instances_of_maps(*place(folder, maps, names, images)))
    return content


def painted(content: dict[str, Any]) -> NDArray[np.uint8]:
    """Paint the annotations and the ignored regions of one image."""
    labels = np.zeros((content["images"][0]["height"], content["images"][0]["width"]), np.uint8)
    for entry in content["annotations"]:
        labels[coco_mask.decode(entry["segmentation"]) == 1] = entry["category_id"]
    for entry in content["cocoseg_ignored_regions"]:
        labels[coco_mask.decode(entry["segmentation"]) == 1] = 255
    return labels


def test_each_class_of_an_image_is_one_annotation_and_255_is_an_ignored_region(tmp_path: Path) -> None:
    content = made(tmp_path, {"000000000139.png": MAP})

    assert content["images"] == [{"id": 139, "file_name": "000000000139.jpg", "width": 3, "height": 2}]
    assert content["categories"] == [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}]
    person, car = content["annotations"]
    assert {key: person[key] for key in ("id", "image_id", "category_id", "iscrowd", "area", "bbox")} == {
        "id": 1, "image_id": 139, "category_id": 1, "iscrowd": 0, "area": 3, "bbox": [1, 0, 2, 2],
    }  # fmt: skip
    assert (car["id"], car["area"], car["bbox"]) == (2, 1, [1, 1, 1, 1])
    assert [entry["image_id"] for entry in content["cocoseg_ignored_regions"]] == [139]
    assert np.array_equal(painted(content), MAP)


def test_annotations_are_the_same_bytes_however_many_processes_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    folders = place(tmp_path, {f"{n}.png": random.integers(0, 3, (2, 3), np.uint8) for n in range(150)})
    found = []
    for workers in ("1", "2"):
        monkeypatch.setenv("COCOSEG_WORKERS", workers)
        found.append(instances_of_maps(*folders))
    assert found[0] == found[1]
    assert len(json.loads(found[0])["images"]) == 150


def test_an_image_is_numbered_by_the_number_that_ends_its_name_else_its_id_is_its_name(tmp_path: Path) -> None:
    content = made(tmp_path, dict.fromkeys(["a/7.png", "b/7.png", "cat.png", "shot_12.png"], MAP))

    assert [image["id"] for image in content["images"]] == ["a/7.png", "b/7.png", "cat.png", 12]
    assert {entry["image_id"] for entry in content["annotations"]} == {"a/7.png", "b/7.png", "cat.png", 12}


def test_images_are_found_by_name_whatever_their_extension_and_beside_their_maps(tmp_path: Path) -> None:
    folder, _ = place(tmp_path, {"a.png": MAP, "B.PNG": MAP}, images=[])
    for name in ("a.jpeg", "B.webp"):
        (folder / name).write_bytes(cv2.imencode(Path(name).suffix, np.zeros((2, 3, 3), np.uint8))[1].tobytes())

    content = json.loads(instances_of_maps(folder, folder))

    assert [image["file_name"] for image in content["images"]] == ["B.webp", "a.jpeg"]


def test_of_a_palette_the_indices_are_taken_and_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    palette = bytes([0, 0, 0, 128, 0, 0, 0, 128, 0])
    voc = palette + bytes(3 * 252) + bytes([224, 224, 192])

    content = made(tmp_path, {"2007_000032.png": png(MAP, 3, palette=voc)})

    assert np.array_equal(painted(content), MAP)
    assert "1 of 1 label maps have a palette: their indices are taken, not their colors" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [0, 3])
@pytest.mark.parametrize("depth", [1, 2, 4])
def test_samples_of_fewer_bits_are_class_indices_too(tmp_path: Path, kind: int, depth: int) -> None:
    samples = np.array([[0, 1, 0], [1, 1, 0]]) if depth == 1 else np.array([[0, 1, 2], [2, 1, 0]])

    content = made(tmp_path, {"1.png": png(samples, kind, depth, bytes(range(9)) if kind == 3 else b"")})

    assert np.array_equal(painted(content), samples)


@pytest.mark.parametrize(
    "names",
    [
        {"0": "background", "1": "person", "2": "car", "255": "void"},
        {"person": 1, "car": 2},
        [{"id": 1, "name": "person"}, {"id": 2, "name": "car"}],
        ["background", "person", "car"],
        "background\nperson\ncar\n",
        "_background_\r\nperson\r\ncar\r\n\r\n",
        "1 person\n2 car",
        "0: background\n1: person\n2: car\n255: ignore\n",
    ],
)
def test_names_come_as_index_and_name_or_as_a_list_that_begins_with_the_background(tmp_path: Path, names: Any) -> None:
    assert made(tmp_path, {"1.png": MAP}, names)["categories"] == [
        {"id": 1, "name": "person"},
        {"id": 2, "name": "car"},
    ]


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (None, r"labels: a folder of 1 \.png, without classes\.json; expected \{.*\} in it, or a COCO"),
        (
            "person\ncar",
            r"classes\.txt: its first line is 'person'; expected 'background', which is 0, or lines such as",
        ),
        (
            {"0": "road", "1": "car"},
            r"classes\.json: calls 0 'road', but 0 is background; give that class another value",
        ),
        (["road", "car"], r"calls 0 'road'"),
        ({"1": "crack", "255": "hole"}, r"calls 255 'hole', but 255 is ignored; give"),
        ({"1": "crack", "300": "hole"}, r"names the index 300; expected 1 to 254"),
        ({"1": "crack", "01": "hole"}, r"names 1 twice, 'crack' and 'hole'"),
        ({"1": "crack", "2": "crack"}, r"gives two values the name 'crack'"),
        ({"1": None}, r"the name of 1 is None; expected \{"),
        ({"1": "a\nb"}, r"the name of 1 is 'a\\nb'"),
        ({"names": ["a"]}, r"holds 'names': .*; expected \{"),
        ("background\n\nperson", r"classes\.txt: the name of 1 is ''; expected lines such as"),
        ({}, "names no class; expected"),
        ("", r"classes\.txt: names no class; expected lines such as"),
        (7, "is not an object; expected"),
    ],
)
def test_names_that_nobody_can_be_sure_of_are_one_line(tmp_path: Path, names: Any, line: str) -> None:
    with pytest.raises(CocosegError, match=line) as caught:
        made(tmp_path, {"1.png": MAP}, names)
    assert "\n" not in str(caught.value)


def test_a_broken_or_a_second_file_of_names_is_one_line(tmp_path: Path) -> None:
    folders = place(tmp_path, {"1.png": MAP}, "1 person")
    (tmp_path / "labels/classes.json").write_text('{"1": ')
    with pytest.raises(CocosegError, match=r"classes\.json: classes\.txt is there too; keep one of them"):
        instances_of_maps(*folders)
    (tmp_path / "labels/classes.txt").unlink()
    with pytest.raises(CocosegError, match=r"classes\.json: is not JSON: "):
        instances_of_maps(*folders)
    (tmp_path / "labels/classes.json").write_bytes(b"\xff\xfe1")
    with pytest.raises(CocosegError, match=r"classes\.json: is not UTF-8"):
        instances_of_maps(*folders)


COLORS = cv2.imencode(".png", np.full((2, 3, 3), 9, np.uint8))[1].tobytes()
JPEG = cv2.imencode(".jpg", np.zeros((2, 3), np.uint8))[1].tobytes()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (COLORS, r"b\.png: is RGB \(1 of 2 label maps\); expected one channel of class indices; turn its colors into"),
        (cv2.imencode(".png", np.zeros((2, 3, 4), np.uint8))[1].tobytes(), r"b\.png: is RGB with alpha"),
        (encode_png(np.zeros((2, 3), np.uint16)), r"b\.png: has 16 bits a pixel .*; expected 8: class indices"),
        (JPEG, r"b\.png: is not a PNG, whatever its name says .*; export it as PNG"),
        (encode_png(MAP)[:-20], r"b\.png: cannot be decoded \(truncated"),
        (b"", r"b\.png: cannot be decoded \(empty\)"),
        (MAP + 5 * (MAP == 2), r"b\.png: holds the value 7, which classes\.json does not name; 1 of 2 label maps hold"),
    ],
)
def test_a_file_that_is_no_label_map_is_one_line(tmp_path: Path, content: Any, line: str) -> None:
    with pytest.raises(CocosegError, match=line) as caught:
        made(tmp_path, {"a.png": MAP, "b.png": content})
    assert "\n" not in str(caught.value)


def test_a_pipe_and_a_map_of_a_trillion_pixels_are_one_line(tmp_path: Path) -> None:
    huge = bytearray(encode_png(MAP))
    huge[16:24] = struct.pack(">II", 10**6, 10**6)
    huge[29:33] = struct.pack(">I", zlib.crc32(huge[12:29]))
    with pytest.raises(
        CocosegError, match=r"a\.png: has more than 200,000,000 pixels \(1 of 1 label maps\); cut it, and"
    ):
        made(tmp_path / "1", {"a.png": bytes(huge)})
    labels, images = place(tmp_path / "2", {"a.png": MAP, "b.png": MAP})
    (labels / "b.png").unlink()
    os.mkfifo(labels / "b.png")
    with pytest.raises(CocosegError, match=r"b\.png: cannot be read \(is a pipe or device, not a file\) \(1 of 2"):
        instances_of_maps(labels, images)


def test_values_between_classes_are_taken_for_a_blurred_map(tmp_path: Path) -> None:
    with pytest.raises(CocosegError, match=r"hold such values \(3, 4, 5, 6, 7, …\); scale label maps with nearest"):
        made(tmp_path, {"a.png": np.arange(120, dtype=np.uint8).reshape(2, 60)})


def test_palettes_that_give_an_index_two_colors_are_one_line(tmp_path: Path) -> None:
    red, green = bytes([0, 0, 0, 255, 0, 0]), bytes([0, 0, 0, 0, 255, 0, 255, 0, 0])
    one = np.array([[0, 1, 1], [0, 0, 0]])
    with pytest.raises(CocosegError, match=r"a\.png: its palette is not that of b\.png, so an index does not mean"):
        made(tmp_path, {"a.png": png(one, 3, palette=red), "b.png": png(one, 3, palette=green)})
    assert made(tmp_path, {"b.png": png(one, 3, palette=red + green)})["annotations"]  # a palette that is cut short


def test_maps_of_0_and_255_alone_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(CocosegError, match="hold nothing but 0, the background, and 255, which is ignored; write the"):
        made(tmp_path, {"a.png": [[0, 255, 0]]}, {"1": "crack"})


def test_a_map_without_its_image_stays_and_is_said_so_that_mask_counts_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = made(tmp_path, {"a.png": MAP, "b.png": MAP}, images=["b.jpg", "c.jpg", "notes.txt.jpg"])

    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "b.jpg"]
    said = capsys.readouterr().err
    assert f"download: 1 of 2 label maps have no image in {tmp_path}/images, first: a.png" in said
    assert "download: images without a label map, which are left out: 2, first: c.jpg" in said


def test_names_that_fit_no_image_or_two_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        CocosegError, match=r"no image has the name of one of the 1 label maps, such as a_mask\.png; its"
    ):
        made(tmp_path / "1", {"a_mask.png": MAP}, images=["a.jpg"])
    with pytest.raises(
        CocosegError, match=r"a\.png: may be of a\.jpg or of a\.webp; expected names of images that differ"
    ):
        made(tmp_path / "2", {"a.png": MAP}, images=["a.jpg", "a.webp"])
    with pytest.raises(CocosegError, match=r"images: not there; expected images to name the folder"):
        made(tmp_path / "3", {"a.png": MAP}, images=[])


def test_a_map_of_another_size_is_said_and_where_all_are_it_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = r"1 of {} label maps have another size than their image, first: b.png, 5×1 pixels, and b.jpg, 3×2"
    large = np.ones((1, 5), np.uint8)
    content = made(tmp_path / "1", {"a.png": MAP, "b.png": large})
    assert len(content["images"]) == 2
    assert line.format(2) in capsys.readouterr().err
    with pytest.raises(CocosegError, match=line.format(1) + "; scale the maps with nearest neighbour"):
        made(tmp_path / "2", {"b.png": large})


def test_a_map_that_lies_as_exif_turns_its_image_is_of_its_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, {"a.png": MAP.T})

    assert "another size" not in capsys.readouterr().err


def test_a_map_without_a_class_stays_for_negatives_to_judge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = made(tmp_path, {"a.png": MAP, "b.png": np.zeros((2, 3), np.uint8)})

    assert [image["id"] for image in content["images"]] == ["a.png", "b.png"]
    assert {entry["image_id"] for entry in content["annotations"]} == {"a.png"}
    assert "1 of 2 label maps hold no class, first: b.png; see negatives in params.yaml" in capsys.readouterr().err


def test_what_else_lies_in_the_folder_is_named_if_there_is_no_png(tmp_path: Path) -> None:
    labels, images = tmp_path / "labels", tmp_path / "images"
    labels.mkdir()
    with pytest.raises(CocosegError, match=r"labels: an empty folder, without label maps; expected PNG files of one"):
        instances_of_maps(labels, images)
    (labels / "classes.json").write_text(json.dumps(NAMES))
    (labels / "a.txt").write_text("0 0.1 0.1 0.2 0.2 0.3 0.1")
    (labels / ".hidden.png").write_bytes(b"")
    with pytest.raises(CocosegError, match=r"labels: a folder of 1 \.txt, 1 \.json, without label maps; .*JSON; docs/"):
        instances_of_maps(labels, images)
    (labels / "instances.json").write_text("{}")
    with pytest.raises(
        CocosegError, match=r"JSON; did you mean .*/labels/instances\.json\?; docs/your-own-data\.md says"
    ):
        instances_of_maps(labels, images)
    (labels / "others.json").write_text("{}")
    with pytest.raises(
        CocosegError, match=r"JSON; if its 2 JSON files are COCO's, join them, as docs/your-own-data\.md"
    ):
        instances_of_maps(labels, images)


def test_label_maps_and_their_images_are_local_folders(tmp_path: Path) -> None:
    folder, images = place(tmp_path, {"1.png": MAP})
    params = DownloadParams(dataset="custom", annotations=f"file://{folder}", images=str(images))
    assert json.loads(instances_json(params))["images"][0]["file_name"] == "1.jpg"
    with pytest.raises(CocosegError, match=r"images is s3://bucket/images; expected a local folder, as annotations"):
        instances_json(DownloadParams(dataset="custom", annotations=str(folder), images="s3://bucket/images"))
    with pytest.raises(CocosegError, match=r"s3://bucket/labels/: a folder of another machine; expected a COCO inst"):
        custom_instances("s3://bucket/labels/")


def test_pixels_are_counted_in_blocks_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(0).choice(np.array([0, 1, 7, 255], np.uint8), (23, 5))
    whole = regions_of(labels)
    monkeypatch.setattr("cocoseg.download.label_maps._COUNTED_PIXELS", 10)
    assert regions_of(labels) == whole
    assert {value: pixels for value, (pixels, _, _) in whole.items()} == {
        value: int((labels == value).sum()) for value in (1, 7, 255)
    }
