"""A user's own images: found, named, read upright; what is none is one line."""

import io
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cocoseg.commands.predict.photos import decode_photo, find_photos, open_photo
from cocoseg.core.errors import CocosegError

OUT = Path("out")
# Left half white, right half black: 4 × 2 pixels.
LEFT_WHITE = np.zeros((2, 4, 3), np.uint8)
LEFT_WHITE[:, :2] = 255


def save(path: Path, pixels: NDArray[np.uint8] = LEFT_WHITE, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a/1.png", "a/deep/2.PNG", "b/1.png", "c/.hidden.png"):
        Image.fromarray(LEFT_WHITE).save(_made(tmp_path / name), "PNG")
    (tmp_path / "a/notes.txt").write_text("no image")
    return tmp_path


def read_photo(path: Path, *, upright: bool = True) -> NDArray[np.uint8]:
    return decode_photo(open_photo(path), upright=upright)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def names(*arguments: str) -> list[str]:
    return [photo.name for photo in find_photos(arguments, [OUT]).photos]


def test_a_folder_is_searched_for_images_and_they_are_named_by_their_place_in_it(here: Path) -> None:
    assert names("a") == names(str(here / "a")) == names("a/../a/") == ["1.png", "deep/2.PNG"]


def test_a_linked_folder_is_searched_too_and_one_that_leads_back_ends(here: Path) -> None:
    (here / "linked").mkdir()
    Path("linked/more").symlink_to(here / "a", target_is_directory=True)
    Path("a/back").symlink_to(here / "linked", target_is_directory=True)
    assert names("linked") == ["more/1.png", "more/deep/2.PNG"]
    assert names("a") == ["1.png", "deep/2.PNG"]


def test_a_folder_beside_links_to_it_is_searched_once_and_has_its_own_name(here: Path) -> None:
    for link, target in (("all", "deep"), ("here", "."), ("there", "."), ("zero", "all")):
        Path("a", link).symlink_to(target, target_is_directory=True)
    assert names("a") == ["1.png", "deep/2.PNG"]


def test_what_an_earlier_run_wrote_is_left_out_by_whatever_way_it_is_reached(here: Path) -> None:
    Path("link").symlink_to(here / "a", target_is_directory=True)
    photos = find_photos(["a", "link"], [here / "link/deep"]).photos
    assert [photo.name for photo in photos] == ["a/1.png", "link/1.png"]


def test_what_runs_with_another_out_wrote_is_left_out_too(here: Path) -> None:
    for name in ("masks/1.png", "overlays/1.jpg", "legend.png", "results.json", "images.json"):
        save(here / "a/earlier" / name) if "json" not in name else _made(here / "a/earlier" / name).touch()
    assert names("a") == ["1.png", "deep/2.PNG"]
    assert names("a/earlier/overlays") == ["1.jpg"]
    (here / "a/earlier/results.json").unlink()
    assert len(names("a")) == 5


def test_a_stray_path_is_one_line_and_leaves_the_names_of_the_others_alone(here: Path) -> None:
    found = find_photos(["b", "nowhere.png", "a/notes.txt"], [OUT])
    assert [photo.name for photo in found.photos] == ["1.png"]
    assert found.problems == [
        "nowhere.png: not found; expected a file, a folder or a glob such as 'photos/*.jpg'",
        "a/notes.txt: not an image; expected a still JPEG, PNG, WebP, BMP or TIFF",
    ]


def test_hidden_folders_are_not_searched(here: Path) -> None:
    Image.fromarray(LEFT_WHITE).save(_made(here / "b/.thumbs/2.png"), "PNG")
    assert names("b") == ["1.png"]


def test_names_that_would_be_one_file_on_some_disk_or_a_file_and_a_folder_are_one_line_each(here: Path) -> None:
    for name in ("d/A.png", "d/a.jpg", "e/x.jpg", "e/x.png/y.jpg", "f/z.webp", "f/z.jpg/y.png"):
        Image.fromarray(LEFT_WHITE).save(_made(here / name))
    for folder, good, line in (
        ("d", "A.png", "d/a.jpg: its mask would have the same name as that of d/A.png; rename one of them"),
        ("e", "x.png/y.jpg", "e/x.jpg: x.png would be a file where e/x.png/y.jpg needs a folder; rename one of them"),
        ("f", "z.jpg/y.png", "f/z.webp: z.jpg would be a file where f/z.jpg/y.png needs a folder; rename one of them"),
    ):
        found = find_photos([folder], [])
        assert ([photo.name for photo in found.photos], found.problems) == ([good], [line])


def test_files_of_two_folders_keep_their_folders_in_their_names(here: Path) -> None:
    assert names("a/1.png") == ["1.png"]
    assert names("a/1.png", "b/1.png") == names("a/1.png", "b") == ["a/1.png", "b/1.png"]


def test_a_glob_is_matched_here_if_the_shell_did_not(here: Path) -> None:
    assert names("a/*.png") == ["1.png"]
    assert names("*/1.png") == ["a/1.png", "b/1.png"]
    assert names("a/**/*.PNG") == ["deep/2.PNG"]


def test_an_image_named_twice_is_there_once_and_what_lies_in_the_output_folder_is_left_out(here: Path) -> None:
    assert names("a", "a/1.png", str(here / "a/1.png")) == ["1.png", "deep/2.PNG"]
    assert [photo.name for photo in find_photos(["a"], [Path("a/deep")]).photos] == ["1.png"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(here: Path) -> None:
    save(here / "a" / "x[1].png")
    assert names("a/x[1].png") == ["x[1].png"]


def test_a_folder_without_an_image_a_glob_without_a_match_and_equal_mask_names_are_one_line_each(here: Path) -> None:
    save(here / "a" / "1.jpg")
    found = find_photos(["c", "a/*.gif", "a/1.jpg", "a/1.png"], [OUT])
    assert [photo.name for photo in found.photos] == ["1.jpg"]
    assert found.problems == [
        "c: contains no image; expected files such as .jpg or .png in it or its subfolders",
        "a/*.gif: matches nothing; expected a file, a folder or a glob such as 'photos/*.jpg'",
        "a/1.png: its mask would have the same name as that of a/1.jpg; rename one of them",
    ]


def test_what_names_nothing_that_can_be_looked_at_is_a_line_beside_what_can(here: Path) -> None:
    found = find_photos(["", "a/**.png", "x" * 300, "b"], [OUT])
    assert [photo.name for photo in found.photos] == ["1.png"]
    way_out = "expected a file, a folder or a glob such as 'photos/*.jpg'"
    assert [problem.endswith(way_out) for problem in found.problems] == [True] * 3
    assert [problem.split(":")[0] for problem in found.problems] == ["''", "a/**.png", "x" * 300]


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no file names that are no Unicode")
@pytest.mark.parametrize("name", [b"caf\xe9.png", b"two\nlines.png"])
def test_a_name_that_cannot_be_written_is_one_line(name: bytes, here: Path) -> None:
    shutil.copy(here / "b/1.png", here / "b" / os.fsdecode(name))
    found = find_photos(["b"], [OUT])
    assert [photo.name for photo in found.photos] == ["1.png"]
    [problem] = found.problems
    assert problem.endswith(": its name cannot be written into results; rename it")
    assert problem.isascii()
    assert "\n" not in problem


def test_a_name_may_have_any_letters_and_spaces(here: Path) -> None:
    (here / "b/1.png").rename(here / "b/été 日本 👩‍👧.png")
    assert names("b") == ["été 日本 👩‍👧.png"]


def test_a_folder_that_cannot_be_read_is_a_line(here: Path) -> None:
    os.chdir(here / "b")
    for _ in range(20):  # deeper than a path can say: root may read every other folder
        Path("x" * 250).mkdir()
        os.chdir("x" * 250)
    os.chdir(here)
    found = find_photos(["b"], [OUT])
    assert [photo.name for photo in found.photos] == ["1.png"]
    [problem] = found.problems
    assert problem.startswith("b/xxx")
    assert problem.endswith("x: cannot be read (File name too long)")


def test_a_side_longer_than_a_jpeg_can_have_is_one_line(tmp_path: Path) -> None:
    Image.new("L", (65_501, 2)).save(tmp_path / "strip.png")
    with pytest.raises(CocosegError, match=r"strip\.png: 65501×2 pixels; expected at most 65,500 per side$"):
        read_photo(tmp_path / "strip.png")


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_pixels_are_rgb(tmp_path: Path, suffix: str) -> None:
    red = np.zeros((3, 5, 3), np.uint8)
    red[..., 0] = 255
    assert np.array_equal(read_photo(save(tmp_path / f"red{suffix}", red, lossless=True)), red)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_an_image_is_turned_as_its_exif_orientation_says(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise: what is stored on the left comes to the top
    wide = np.repeat(np.repeat(LEFT_WHITE, 8, axis=0), 8, axis=1)
    pixels = read_photo(save(tmp_path / f"turned{suffix}", wide, exif=exif))
    assert pixels.shape == (32, 16, 3)
    assert pixels[:12].min() > 200
    assert pixels[20:].max() < 50


def test_gray_and_sixteen_bit_images_have_three_channels_of_eight(tmp_path: Path) -> None:
    assert read_photo(save(tmp_path / "gray.png", LEFT_WHITE[..., 0])).tolist() == LEFT_WHITE.tolist()
    deep = Image.fromarray(np.full((2, 2), 0x8000, np.uint16))
    deep.save(tmp_path / "deep.png")
    assert read_photo(tmp_path / "deep.png").tolist() == [[[128] * 3] * 2] * 2


def test_an_alpha_channel_that_hides_nothing_is_no_fault(tmp_path: Path) -> None:
    opaque = np.dstack([LEFT_WHITE, np.full((2, 4), 255, np.uint8)])
    assert np.array_equal(read_photo(save(tmp_path / "opaque.png", opaque)), LEFT_WHITE)


@pytest.mark.parametrize("kind", ["RGBA png", "palette png", "RGBA webp", "lossless webp"])
def test_a_transparent_image_is_one_line_that_says_how_much_of_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"clear.{kind[-4:].strip()}"
    if kind == "palette png":
        Image.fromarray(LEFT_WHITE).quantize(2).save(path, transparency=0)
    else:
        half = np.dstack([LEFT_WHITE, LEFT_WHITE[..., 0]])
        save(path, half, **({"lossless": True} if kind == "lossless webp" else {}))
    with pytest.raises(CocosegError, match=r"clear\.\w+: 50% of its pixels are transparent"):
        read_photo(path)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_an_animated_image_is_one_line(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(np.full((16, 16, 3), value, np.uint8)) for value in (0, 120, 255)]
    path = tmp_path / f"moving{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    with pytest.raises(CocosegError, match=r"moving\.\w+: a.* animated.*; expected a still JPEG, "):
        read_photo(path)


def _encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(LEFT_WHITE).save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty; expected a still"),
        (b"Dear diary,", "not an image; expected a still"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC file, as phones save them; expected a still"),
        (b"II*\0\x08\0\0\0" + bytes(500), "not an image; expected a still"),
        (_encoded("PNG")[:-20], "truncated"),
        (_encoded("PNG").replace(b"IDAT", b"JUNK"), "damaged"),
        (
            b"BM" + bytes(16) + (20_000).to_bytes(4, "little") * 2 + bytes(8),
            "20000×20000 pixels; expected at most",
        ),
    ],
)
def test_what_is_no_image_is_said_in_one_line(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "thing.jpg"
    path.write_bytes(data)
    with pytest.raises(CocosegError) as raised:
        read_photo(path)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_one_pixel_is_no_image_and_neither_is_a_folder_or_nothing(tmp_path: Path) -> None:
    with pytest.raises(CocosegError, match=r"one\.png: 1×1 pixels; expected at least 2 per side"):
        read_photo(save(tmp_path / "one.png", LEFT_WHITE[:1, :1]))
    with pytest.raises(CocosegError, match="cannot be read \\(Is a directory\\)"):
        read_photo(tmp_path)
    with pytest.raises(CocosegError, match="not found; expected a file, a folder or a glob"):
        read_photo(tmp_path / "gone.jpg")


def test_a_pipe_that_is_named_like_an_image_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(CocosegError, match=r"pipe\.jpg: cannot be read \(is a pipe or device, not a file\)"):
        read_photo(tmp_path / "pipe.jpg")


def test_a_photo_whose_pixels_would_be_filled_in_is_damaged(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    path = save(tmp_path / "a.jpg", rng.integers(0, 256, (60, 80, 3), dtype=np.uint8), quality=90)
    whole = path.read_bytes()
    assert read_photo(path).shape == (60, 80, 3)
    path.write_bytes(whole[: len(whole) // 2] + whole[len(whole) // 2 + 500 :])
    with pytest.raises(CocosegError, match=r"a\.jpg: damaged, so that a part of its pixels is lost; copy it again"):
        read_photo(path)


def test_a_tiff_of_one_page_and_eight_bits_is_read_and_another_is_one_line(tmp_path: Path) -> None:
    assert read_photo(save(tmp_path / "a.tif", compression="tiff_lzw")).tolist() == LEFT_WHITE.tolist()
    Image.fromarray(LEFT_WHITE).save(
        tmp_path / "pages.tif", save_all=True, append_images=[Image.fromarray(LEFT_WHITE[::-1])]
    )
    save(tmp_path / "deep.tif", np.full((4, 4), 0x8000, np.uint16))
    for name in ("pages.tif", "deep.tif"):
        with pytest.raises(CocosegError, match=rf"{name}: a TIFF of several pages, or of another depth than 8 bits"):
            read_photo(tmp_path / name)
