from pathlib import Path

import cv2
import numpy as np
import pytest
from small_data import write_pairs

from cocoseg.core.errors import CocosegError
from cocoseg.images.pairs import decoded_mask, pairs, read_pair
from cocoseg.images.png import encode_png


def test_a_pair_is_read_as_rgb_and_class_indices(tmp_path: Path) -> None:
    pair = write_pairs(tmp_path, 1)[0]
    pair.image.write_bytes(cv2.imencode(".png", np.full((32, 32, 3), (3, 2, 1), np.uint8))[1].tobytes())
    image, mask = read_pair(pair, classes=3)
    assert image[0, 0].tolist() == [1, 2, 3]
    assert set(np.unique(mask).tolist()) == {0, 2, 255}


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
