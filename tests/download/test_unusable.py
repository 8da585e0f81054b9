"""Why no image can be used: each fault with its own way out."""

from pathlib import Path

import pytest

from cocoseg.coco.format import Image
from cocoseg.download.unusable import why_unusable
from cocoseg.tables import ImageRow


def why(folder: Path | None, file_name: str, status: str) -> str:
    image = Image(id=1, file_name=file_name, width=30, height=40)
    row = ImageRow(image_id=1, file_name=file_name, status=status, width=40, height=30)
    return why_unusable(row, image, folder)


@pytest.mark.parametrize(
    ("file_name", "there", "way_out"),
    [
        ("a.jpg", "default/a.jpg", "set images={}/train2017/default"),  # as CVAT packs them
        ("b/a.jpg", "x/b/a.jpg", "set images={}/train2017/x"),
        ("train2017/a.jpg", "a.jpg", "set images={}"),  # as LVIS names them
        ("a.jpg", "a.JPG", "file_names must be those of the files, letter by letter"),
        ("x/a.jpg", "a.jpg", "file_names must be those of the files, letter by letter"),
        ("caf\u00e9.jpg", "cafe\u0301.jpg", "run: convmv -f utf8 -t utf8 --nfc"),  # packed on macOS
        ("a%20b%C3%A9.jpg", "a b\u00e9.jpg", "file_names must be those of the files, letter by letter"),
        ("a", "a.jpg", "file_names must be those of the files, letter by letter"),
        ("a.png", "x/a.jpg", "file_names must be those of the files, letter by letter"),
    ],
)
def test_of_a_missing_file_that_lies_elsewhere_the_place_and_the_way_out_are_said(
    tmp_path: Path, file_name: str, there: str, way_out: str
) -> None:
    folder = tmp_path / "train2017"
    (folder / there).parent.mkdir(parents=True)
    (folder / there).touch()
    (folder / "a.json").touch()  # of labelme

    said = why(folder, file_name, "missing")

    assert said.startswith(f"{file_name} is missing, but {there} is there; ")
    assert way_out.format(tmp_path) in said


@pytest.mark.parametrize("folder", [True, False])
def test_a_missing_file_that_is_nowhere_leads_to_the_parameter(tmp_path: Path, folder: bool) -> None:
    assert why(tmp_path if folder else None, "a.jpg", "missing").startswith(
        "a.jpg is missing; check the parameter images"
    )


def test_a_wrong_size_is_said_beside_the_annotated_one() -> None:
    assert why(None, "a.jpg", "wrong_size").startswith("a.jpg has 40×30 pixels, but its entry says 30×40; name the ")
    row = ImageRow(image_id=1, file_name="a.jpg", status="wrong_size", width=60, height=80)
    said = why_unusable(row, Image(id=1, file_name="a.jpg", width=30, height=40), None)
    assert said.endswith("; it was scaled: name the images that were annotated, or scale their annotations, too")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC, a phone's format; expected JPEG"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF; expected JPEG"),
        (b"GIF89a", "GIF; expected JPEG"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-LFS pointer, not the file"),
        (b"no image", "not_an_image; check the parameter images"),
        (b"", "not_an_image; check the parameter images"),
    ],
)
def test_a_file_of_another_format_is_called_by_its_name(tmp_path: Path, content: bytes, kind: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)

    assert why(tmp_path, "a.jpg", "not_an_image").startswith(f"a.jpg is {kind}")
