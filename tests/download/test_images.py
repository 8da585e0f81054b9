"""Images: fetched or drawn once, checked, placed; the stage runs as a script, the server is real."""

import hashlib
import json
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from loopback import CUT, LoopbackServer
from stage_runs import run_stage, start_stage

from cocoseg.coco.format import Image
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import read_table, write_bytes
from cocoseg.download.images import download_images, remarks
from cocoseg.download.images_params import DownloadImagesParams
from cocoseg.download.remote.cache import image_path, read_entry, write_entry
from cocoseg.images.headers import ExifName
from cocoseg.tables import ImageRow

WIDTH, HEIGHT = 24, 16


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def image(image_id: int, file_name: str | None = None, coco_url: str | None = None) -> Image:
    name = file_name or f"{image_id:04}.jpg"
    return Image(id=image_id, file_name=name, width=WIDTH, height=HEIGHT, coco_url=coco_url)


def custom(images: str) -> DownloadImagesParams:
    return DownloadImagesParams(dataset="custom", images=images, exif="auto")


def cached_image(cache: Path, server: LoopbackServer, name: str) -> Path:
    """Where the cache keeps an image of a custom dataset: by its URL and what the server says of its version."""
    content = server.files[name]
    version = f"ETag={hashlib.sha256(content).hexdigest()} size={len(content)}"
    return image_path(cache, f"{server.url}/{name} {version}")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COCOSEG_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_images_of_a_folder_are_copied_as_they_are(tmp_path: Path) -> None:
    write_bytes(tmp_path / "mine" / "sub folder" / "b.jpg", jpeg(1))
    write_bytes(tmp_path / "mine" / "a.jpg", jpeg(2))
    out = tmp_path / "images"

    rows = download_images([image(7, "sub folder/b.jpg"), image(3, "a.jpg")], custom(f"{tmp_path}/mine"), out)

    assert [(row.image_id, row.status) for row in rows] == [(3, "ok"), (7, "ok")]
    assert (out / "sub folder" / "b.jpg").read_bytes() == jpeg(1)
    assert (out / "a.jpg").stat().st_nlink == 1  # a copy: nothing that happens to it reaches the user's own file


def test_a_row_tells_what_the_file_is(tmp_path: Path) -> None:
    write_bytes(tmp_path / "mine" / "a.jpg", jpeg(2))
    url = "http://images.cocodataset.org/val2017/a.jpg"

    (row,) = download_images([image(3, "a.jpg", url)], custom(f"{tmp_path}/mine"), tmp_path / "images")

    assert (row.width, row.height, row.bytes, row.origin) == (WIDTH, HEIGHT, len(jpeg(2)), "val2017")
    assert row.sha256 is not None
    assert len(row.sha256) == 64
    assert row.phash is not None
    assert len(row.phash) == 16


def upside_down(path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 3
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.open(BytesIO(jpeg(1))).save(path, exif=exif)


@pytest.mark.parametrize(("rule", "converted"), [("auto", "undecided"), ("follow", "turned"), ("ignore", None)])
def test_an_orientation_that_no_size_decides_is_noted_and_the_file_is_not_touched(
    tmp_path: Path, rule: ExifName, converted: str | None
) -> None:
    upside_down(tmp_path / "mine/a.jpg")
    params = DownloadImagesParams(dataset="custom", images=f"{tmp_path}/mine", exif=rule)

    (row,) = download_images([image(3, "a.jpg")], params, tmp_path / "images")

    assert row.converted == converted
    assert (tmp_path / "images/a.jpg").read_bytes() == (tmp_path / "mine/a.jpg").read_bytes()


def test_the_stage_counts_orientations_that_no_size_decides_and_names_the_way_out(tmp_path: Path) -> None:
    for name in ("0000.jpg", "0002.jpg"):
        upside_down(tmp_path / "mine" / name)
    write_bytes(tmp_path / "mine/0001.jpg", jpeg(1))
    stage_folder(tmp_path, entries(3))
    lines = {
        rule: run_stage(
            tmp_path, "download_images", {"dataset": "custom", "exif": rule, "images": f"{tmp_path}/mine"}, {}
        )[1]
        for rule in ("auto", "follow", "ignore")
    }

    assert "2 images, first 0000.jpg, have an EXIF orientation" in lines["auto"][-1]
    assert "exif=follow" in lines["auto"][-1]
    assert len(lines["auto"]) == len(lines["follow"]) + 1 == len(lines["ignore"]) + 1


@pytest.mark.parametrize(
    ("rule", "coco_url", "said"),
    [
        ("auto", None, True),
        ("follow", None, True),
        ("ignore", None, False),
        ("auto", "http://images.cocodataset.org/val2017/a.jpg", False),
    ],
)
def test_sizes_that_contradict_an_orientation_are_said_but_of_cocos_own_images(
    tmp_path: Path, rule: ExifName, coco_url: str | None, said: bool
) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "mine").mkdir()
    PIL.Image.open(BytesIO(jpeg(1))).save(tmp_path / "mine/a.jpg", exif=exif)
    params = DownloadImagesParams(dataset="custom", images=f"{tmp_path}/mine", exif=rule)

    (row,) = rows = download_images([image(3, "a.jpg", coco_url)], params, tmp_path / "images")

    assert row.is_converted("as_stored") == said
    assert [line.split(",")[0] for line in remarks(rows, [image(3)])] == ["1 image"] * said


def test_the_stage_says_which_images_of_sixteen_bits_are_nearly_black(tmp_path: Path) -> None:
    for name, value in (("0000.jpg", 4095), ("0001.jpg", 60_000)):
        deep = np.full((HEIGHT, WIDTH), value, np.uint16)
        write_bytes(tmp_path / "mine" / name, cv2.imencode(".png", deep)[1].tobytes())
    stage_folder(tmp_path, entries(2))

    params = {"dataset": "custom", "exif": "auto", "images": f"{tmp_path}/mine"}
    _, lines = run_stage(tmp_path, "download_images", params, {})

    assert "1 image, first 0000.jpg, have 16 bits and no value of 4,096 or more" in lines[-1]
    rows = read_table(tmp_path / "data/images.csv", ImageRow)
    assert [row.converted for row in rows] == ["gray 16bit low_range", "gray 16bit"]


def test_a_missing_or_broken_image_has_its_status_and_no_file(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    png = cv2.imencode(".png", np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8))[1].tobytes()
    (mine / "folder.jpg").mkdir(parents=True)
    for name, data in {"good": jpeg(1), "empty": b"", "text": b"no image", "cut": jpeg(1)[:-9], "wide": png}.items():
        write_bytes(mine / f"{name}.jpg", data)
    names = ["good", "empty", "text", "cut", "wide", "gone", "folder"]
    images = [image(number, f"{name}.jpg") for number, name in enumerate(names)]

    rows = download_images(images, custom(str(mine)), tmp_path / "images")

    assert [row.status for row in rows] == [
        "ok",
        "empty",
        "not_an_image",
        "truncated",
        "wrong_size",
        "missing",
        "missing",
    ]
    assert [(row.width, row.bytes) for row in rows[4:6]] == [(WIDTH + 1, len(png)), (None, None)]
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["good.jpg"]
    assert remarks(rows, images) == [
        "1 of 7 images empty, first: empty.jpg",
        "2 of 7 images missing, first: gone.jpg",
        "1 of 7 images not_an_image, first: text.jpg",
        "1 of 7 images truncated, first: cut.jpg",
        "1 of 7 images wrong_size, first: wide.jpg, of 25×16 pixels, annotated as 24×16",
    ]
    images[4].width, images[4].height = HEIGHT, WIDTH + 1
    assert remarks(rows, images)[-1].endswith("annotated as 16×25, swapped: correct width and height")


def test_no_image_at_all_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(
        CocosegError, match="mine: none of the 1 images can be used; 0001.jpg is missing; check the parameter images"
    ):
        download_images([image(1)], custom(f"{tmp_path}/mine"), tmp_path / "images")
    with pytest.raises(CocosegError, match="other: not found; expected the folder of the images"):
        download_images([image(1)], custom(f"{tmp_path}/other"), tmp_path / "images")


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "a\\b.jpg", "nul.jpg"])
def test_a_name_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CocosegError, match="image 1: file_name .* is not a valid name below a folder"):
        download_images([image(1, name)], custom(f"{tmp_path}"), tmp_path / "images")


def test_images_of_a_url_are_fetched_once_and_for_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {f"p/{number:04}.jpg": jpeg(number) for number in range(40)}
    images = [image(number) for number in range(40)]
    with LoopbackServer(files) as server:
        first = download_images(images[:25], custom(f"{server.url}/p"), tmp_path / "one")
        assert sorted(server.asked_for()) == sorted(files)[:25]
        server.log.clear()

        # Other classes choose other images, in another folder, such as a queued run's.
        second = download_images(images[10:], custom(f"{server.url}/p"), tmp_path / "two")
        assert sorted(server.asked_for()) == sorted(files)[25:]

    assert first[10:] == second[:15]
    assert (tmp_path / "two" / "0039.jpg").read_bytes() == jpeg(39)
    assert "30 images, about " in capsys.readouterr().err


def test_images_of_a_named_dataset_lie_under_their_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = "http://images.cocodataset.org/train2017/0001.jpg"
    with LoopbackServer({"coco/train2017/0001.jpg": jpeg(1)}) as server:
        monkeypatch.setenv("COCOSEG_COCO_URL", f"{server.url}/coco")
        params = DownloadImagesParams(dataset="coco2017", images="", exif="auto")
        (row,) = download_images([image(1, coco_url=url)], params, tmp_path / "images")

    assert (row.status, row.origin) == ("ok", "train2017")


def test_drops_and_busy_servers_are_overcome(tmp_path: Path) -> None:
    files = {f"{number:04}.jpg": jpeg(number) for number in range(12)}
    with LoopbackServer(files) as server:
        server.faults["0003.jpg"] = [CUT, 503]
        server.faults["0007.jpg"] = [503, CUT]
        rows = download_images([image(number) for number in range(12)], custom(server.url), tmp_path / "images")

        assert {row.status for row in rows} == {"ok"}
        assert server.asked_for().count("0003.jpg") == 3
        assert len(server.log) == 12 + 4


def test_an_image_that_the_server_does_not_have_is_missing(tmp_path: Path) -> None:
    with LoopbackServer({"0001.jpg": jpeg(1), "0003.jpg": jpeg(3)}) as server:
        server.faults["0003.jpg"] = [403]
        rows = download_images([image(number) for number in (1, 2, 3)], custom(server.url), tmp_path / "images")

        assert [row.status for row in rows] == ["ok", "missing", "missing"]
        assert set(server.asked_for()) == {"0001.jpg", "0002.jpg", "0003.jpg"}


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "another image", "flipped", "of another place"])
@pytest.mark.parametrize("is_named", [False, True])
def test_an_image_that_was_damaged_in_the_cache_is_fetched_once_more(
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: str,
    is_named: bool,
) -> None:
    with LoopbackServer({"val2017/0001.jpg": jpeg(1)}) as server:
        monkeypatch.setenv("COCOSEG_COCO_URL", server.url)
        params, cached = custom(f"{server.url}/val2017"), cached_image(cache, server, "val2017/0001.jpg")
        if is_named:
            params = DownloadImagesParams(dataset="coco2017-val", images="", exif="auto")
            cached = image_path(cache, f"{server.url}/val2017/0001.jpg")
        write_entry(cached, jpeg(1))
        entry = cached.read_bytes()
        middle = len(jpeg(1)) - 40
        flipped = entry[:middle] + bytes([entry[middle] ^ 1]) + entry[middle + 1 :]
        assert cv2.imdecode(np.frombuffer(flipped, np.uint8), cv2.IMREAD_COLOR) is not None  # as good as any
        write_entry(tmp_path / "place", jpeg(2))
        damaged = {
            "empty": b"", "truncated": entry[:-9], "text": b"text", "another image": jpeg(2), "flipped": flipped,
            "of another place": (tmp_path / "place").read_bytes(),
        }  # fmt: skip
        cached.write_bytes(damaged[damage])
        for out in ("one", "two"):
            (row,) = download_images([image(1)], params, tmp_path / out)
            assert row.status == "ok"
            assert (tmp_path / out / "0001.jpg").read_bytes() == jpeg(1)
        assert server.asked_for() == ["val2017/0001.jpg"]
        assert read_entry(cached, []) == jpeg(1)
    line = f"corrupt, or of an older version, and fetched again: 1 image in {cache}"
    assert capsys.readouterr().err.count(line) == 1


def test_without_an_etag_or_a_time_an_image_of_the_same_size_is_not_taken_for_the_same(tmp_path: Path) -> None:
    with LoopbackServer({"0001.jpg": jpeg(1) + b"a"}, etags=False) as server:
        download_images([image(1)], custom(server.url), tmp_path / "one")
        server.files["0001.jpg"] = jpeg(1) + b"b"
        download_images([image(1)], custom(server.url), tmp_path / "two")
        assert (tmp_path / "two" / "0001.jpg").read_bytes() == jpeg(1) + b"b"


def test_a_body_after_the_head_that_head_asked_for_spoils_no_image(tmp_path: Path) -> None:
    def answer() -> Iterable[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(jpeg(1))
        time.sleep(0.05)  # by then the connection counts as free
        yield jpeg(1)

    with LoopbackServer({"0002.jpg": jpeg(2)}) as server:
        server.answers["0001.jpg"] = answer
        rows = download_images([image(1), image(2)], custom(server.url), tmp_path / "images")
    assert [row.status for row in rows] == ["ok", "ok"]


def test_another_image_behind_the_same_url_is_noticed_and_an_unchanged_one_not_asked_for(tmp_path: Path) -> None:
    with LoopbackServer({"0001.jpg": jpeg(1), "0002.jpg": jpeg(2)}) as server:
        images = [image(number) for number in (1, 2)]
        download_images(images, custom(server.url), tmp_path / "one")
        server.files["0002.jpg"] = jpeg(3)
        server.log.clear()
        download_images(images, custom(server.url), tmp_path / "two")
        assert server.asked_for() == ["0002.jpg"]
        assert (tmp_path / "two" / "0002.jpg").read_bytes() == jpeg(3)


def test_a_network_that_is_down_is_one_line_and_not_a_hundred_missing_images(tmp_path: Path) -> None:
    with LoopbackServer({}) as server:
        url = server.url
    with pytest.raises(
        CocosegError, match=r"127\.0\.0\.1 cannot be reached .* \(24 of 100 images failed, 0 are complete"
    ):
        download_images([image(number) for number in range(100)], custom(url), tmp_path / "images")


def stage_folder(folder: Path, images: Sequence[dict[str, Any]]) -> Path:
    content = {"images": list(images), "annotations": [], "categories": []}
    write_bytes(folder / "data" / "filtered" / "instances.json", json.dumps(content).encode())
    return folder


def entries(count: int) -> list[dict[str, Any]]:
    return [{"id": id_, "file_name": f"{id_:04}.jpg", "width": WIDTH, "height": HEIGHT} for id_ in range(count)]


def test_a_killed_stage_asks_only_for_what_is_missing(tmp_path: Path, cache: Path) -> None:
    count = 200
    files = {f"{number:04}.jpg": jpeg(number) for number in range(count)}
    stage_folder(tmp_path, entries(count))
    environment = {"COCOSEG_CACHE": str(cache)}
    with LoopbackServer(files, delay_s=0.1) as server:
        params = {"dataset": "custom", "exif": "auto", "images": server.url}
        with start_stage(tmp_path, "download_images", params, environment) as process:
            server.wait_for_requests(count * 6 // 10)
            process.send_signal(signal.SIGKILL)
        assert not (tmp_path / "data" / "images.csv").exists()
        arrived = [name for name in files if cached_image(cache, server, name).exists()]
        assert count * 4 // 10 <= len(arrived) < count
        server.log.clear()

        status, lines = run_stage(tmp_path, "download_images", params, environment)

        assert (status, len(lines)) == (0, 1)
        assert f"{count} images, about " in lines[0]
        assert f"unchanged ones come from {cache}" in lines[0]
        assert sorted(server.asked_for()) == sorted(set(files) - set(arrived))
    rows = read_table(tmp_path / "data" / "images.csv", ImageRow)
    assert [row.image_id for row in rows] == list(range(count))
    assert all((tmp_path / "data" / "images" / row.file_name).read_bytes() == jpeg(row.image_id) for row in rows)


def test_two_stages_share_a_cache_at_once(tmp_path: Path, cache: Path) -> None:
    count = 60
    files = {f"{number:04}.jpg": jpeg(number) for number in range(count)}
    folders = [tmp_path / name for name in ("one", "two")]
    with LoopbackServer(files, delay_s=0.01) as server, ExitStack() as stack:
        params = {"dataset": "custom", "exif": "auto", "images": server.url}
        write_bytes(cached_image(cache, server, "0007.jpg"), jpeg(8))  # corrupt for both
        for folder in folders:
            stage_folder(folder, entries(count))
        environment = {"COCOSEG_CACHE": str(cache)}
        stages = [
            stack.enter_context(start_stage(folder, "download_images", params, environment)) for folder in folders
        ]
        assert [stage.wait(60) for stage in stages] == [0, 0]
        assert all(read_entry(cached_image(cache, server, name), []) == data for name, data in files.items())
    for folder in folders:
        assert {path.name: path.read_bytes() for path in (folder / "data/images").iterdir()} == files
    assert not list(cache.rglob(".writing-*"))


def test_an_interrupt_ends_transfers_that_hang(tmp_path: Path, cache: Path) -> None:
    def answer() -> Iterable[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        while True:
            time.sleep(0.1)
            yield b" "

    stage_folder(tmp_path, entries(30))
    with LoopbackServer({}) as server:
        server.answers.update({f"{number:04}.jpg": answer for number in range(30)})
        params = {"dataset": "custom", "exif": "auto", "images": server.url}
        with start_stage(tmp_path, "download_images", params, {"COCOSEG_CACHE": str(cache)}) as process:
            server.wait_for_requests(24)
            process.send_signal(signal.SIGINT)
            _, text = process.communicate(timeout=20)  # a second and a half on an idle machine
    assert process.returncode == 130
    assert "Traceback" not in text


def test_the_stage_draws_the_sample_twice_alike(tmp_path: Path) -> None:
    assert run_stage(tmp_path, "download", {"dataset": "sample", "annotations": "", "images": ""}, {})[0] == 0
    content = json.loads((tmp_path / "data/raw/instances.json").read_bytes())
    stage_folder(tmp_path, content["images"][:12])
    outputs = []
    for _ in range(2):
        status, lines = run_stage(tmp_path, "download_images", {"dataset": "sample", "exif": "auto", "images": ""}, {})
        assert (status, lines) == (0, ["download_images: 12 images to draw"])
        (tmp_path / "data/.lock").unlink()  # names the process that held it
        outputs.append({path.name: path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file()})

    assert outputs[0] == outputs[1]
    assert {row.status for row in read_table(tmp_path / "data" / "images.csv", ImageRow)} == {"ok"}
