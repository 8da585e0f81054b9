from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from small_data import write_pairs

from cocoseg.core.errors import CocosegError
from cocoseg.core.files import write_bytes, write_json, write_table
from cocoseg.images.pairs import SplitFiles, decoded_mask, pairs, read_pair, read_reduced
from cocoseg.images.png import encode_png
from cocoseg.tables import ImageRow


def test_a_pair_is_read_as_rgb_and_class_indices(tmp_path: Path) -> None:
    pair = write_pairs(tmp_path, 1)[0]
    pair.image.write_bytes(cv2.imencode(".png", np.full((32, 32, 3), (3, 2, 1), np.uint8))[1].tobytes())
    image, mask = read_pair(pair, classes=3)
    assert image[0, 0].tolist() == [1, 2, 3]
    assert set(np.unique(mask).tolist()) == {0, 2, 255}


def test_an_image_that_the_table_calls_turned_is_read_so_whoever_reads_it(tmp_path: Path) -> None:
    """Training, evaluation and previews read by way of pairs; 3 is upside down, which no size shows."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16] = 255
    names = ["stored.jpg", "turned.jpg"]
    for name in names:
        (tmp_path / "images").mkdir(exist_ok=True)
        PIL.Image.fromarray(pixels).save(tmp_path / "images" / name, exif=exif, quality=100)
        write_bytes(tmp_path / "masks" / f"{name}.png", encode_png(np.zeros((32, 32), np.uint8)))
    rows = [
        ImageRow(image_id=number, file_name=name, status="ok", converted="gray turned" if number else "undecided")
        for number, name in enumerate(names)
    ]
    write_table(tmp_path / "images.csv", rows, ImageRow)
    write_json(tmp_path / "map.json", {name: f"{name}.png" for name in names})
    write_bytes(tmp_path / "splits/train.txt", "\n".join(names).encode())
    sides = SplitFiles(
        splits=tmp_path / "splits",
        mask_map=tmp_path / "map.json",
        images=tmp_path / "images",
        image_table=tmp_path / "images.csv",
        masks=tmp_path / "masks",
    )

    for pair, top in zip(sides.pairs("train"), (255, 0), strict=True):
        whole, reduced = read_pair(pair, 2)[0], read_reduced(pair, 32, 32, 8, 8)[0]
        assert {int(whole[0].mean()), int(reduced[0].mean())} == {top}


def test_an_image_without_its_mask_is_named(tmp_path: Path) -> None:
    with pytest.raises(CocosegError, match=r"images/a\.jpg: has no mask"):
        pairs(["a.jpg"], {}, tmp_path / "images", tmp_path / "masks")
    pair = write_pairs(tmp_path, 1)[0]
    pair.mask.unlink()
    with pytest.raises(CocosegError, match=r"masks/000\.png: not found"):
        read_pair(pair, classes=3)


def test_a_mask_value_outside_the_classes_is_named(tmp_path: Path) -> None:
    pair = write_pairs(tmp_path, 1)[0]
    with pytest.raises(CocosegError, match=r"masks/000\.png: contains the value 2; expected 0 to 1 or 255"):
        read_pair(pair, classes=2)


def test_the_bytes_of_a_label_map_are_checked_as_its_file_is() -> None:
    labels = np.array([[0, 2], [255, 1]], np.uint8)
    assert decoded_mask(encode_png(labels), 3, "HEAD: masks/a.png").tolist() == labels.tolist()
    again = "make it again with: dvc repro -f evaluate"
    for data, classes, found in (
        (encode_png(labels), 2, "contains the value 2; expected 0 to 1 or 255"),
        (b"", 3, "not a single-channel 8-bit PNG"),
    ):
        with pytest.raises(CocosegError) as caught:
            decoded_mask(data, classes, "HEAD: predictions/a.png", stage="evaluate")
        assert str(caught.value) == f"HEAD: predictions/a.png: {found}; {again}"


@pytest.mark.parametrize("content", [b"", b"not a picture", cv2.imencode(".png", np.zeros((4, 4, 3)))[1].tobytes()])
def test_a_broken_mask_is_named(tmp_path: Path, content: bytes) -> None:
    pair = write_pairs(tmp_path, 1)[0]
    pair.mask.write_bytes(content)
    with pytest.raises(CocosegError, match=r"masks/000\.png: not a single-channel 8-bit PNG"):
        read_pair(pair, classes=3)


def test_a_missing_broken_or_wrongly_sized_image_is_named(tmp_path: Path) -> None:
    first, second, third = write_pairs(tmp_path, 3)
    first.image.unlink()
    second.image.write_bytes(b"not a picture")
    third.image.write_bytes(cv2.imencode(".png", np.zeros((5, 4, 3), np.uint8))[1].tobytes())
    for pair, problem in ((first, "not found"), (second, "not_an_image"), (third, "wrong_size")):
        with pytest.raises(CocosegError, match=f"{pair.image.name}: {problem}"):
            read_pair(pair, classes=3)
