"""`cocoseg predict`: a user's own images through a model of this folder, of a revision, of another repository."""

import contextlib
import gc
import io
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import torch
from clones import Clone
from evaluate.test_evaluation import INFO, Bright
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO
from small_data import BINARY, MULTICLASS, write_pairs
from torch import nn

from cocoseg.cli import main
from cocoseg.commands.model_source import ModelSource
from cocoseg.commands.output_folder import prepared_folder
from cocoseg.commands.predict.photos import READABLE
from cocoseg.commands.predict.predict import Summary, _letters, predict
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import read_json, write_json
from cocoseg.evaluate.evaluation import evaluate
from cocoseg.model.architectures import build_model
from cocoseg.model.params import ResizeName
from cocoseg.model.preprocessing import Preprocessing
from cocoseg.model.weights import BestThreshold, save_checkpoint
from cocoseg.model.windows import BorderName
from cocoseg.pictures.overlay import palette

OUT = Path("out")
# What calls every bright pixel a car, at 64 × 64 pixels.
BRIGHT = msgspec.structs.replace(INFO, categories=MULTICLASS.categories)
REAL = msgspec.structs.replace(BRIGHT, arch="fastscnn", encoder="")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def photo(name: str, height: int = 64, width: int = 64) -> Path:
    """Black, with a white rectangle of 16 × 8 pixels whose upper left corner is at x 24, y 40."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[40:48, 24:40] = 255
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def mask(name: str) -> NDArray[np.uint8]:
    found = cv2.imread(str(OUT / "masks" / name), cv2.IMREAD_UNCHANGED)
    assert found is not None
    assert found.dtype == np.uint8
    return np.asarray(found, np.uint8)


def bright(*paths: str, flips: bool = False) -> Summary:
    return predict(lambda: (Bright(), BRIGHT), paths, OUT, None, flips)


def command(*arguments: str) -> int:
    """Return the exit status of `cocoseg predict`, and print the message that it exits with."""
    try:
        main(["predict", *arguments])
    except SystemExit as ended:
        if not isinstance(ended.code, str):
            return ended.code or 0
        sys.stdout.write(f"{ended.code}\n")
        return 1
    return 0


def test_a_mask_has_the_class_index_of_each_pixel_at_the_images_own_size() -> None:
    photo("photos/square.png")
    photo("photos/deep/wide.png", 64, 200)
    assert bright("photos") == Summary(predicted=2, failed=0)
    expected = np.zeros((64, 64), np.uint8)
    expected[40:48, 24:40] = 2
    assert np.array_equal(mask("square.png"), expected)
    assert mask("deep/wide.png").shape == (64, 200)


def test_an_overlay_tints_the_classes_and_a_legend_names_them() -> None:
    photo("square.png")
    bright("square.png")
    overlay = np.asarray(cv2.imread("out/overlays/square.jpg"))[..., ::-1].astype(int)
    assert overlay.shape == (64, 64, 3)
    assert overlay[:12].max() < 20  # above the name
    tint = (255 * 5 + palette()[2].astype(int) * 3) // 8
    assert np.abs(overlay[43:45, 30:34] - tint).max() < 30  # of a JPEG
    assert cv2.imread("out/legend.png") is not None


def test_an_overlay_has_the_name_of_a_class_that_fills_it() -> None:
    Image.new("RGB", (200, 160), "white").save("large.png")
    bright("large.png")
    overlay = np.asarray(cv2.imread("out/overlays/large.jpg"))
    assert (overlay.max(axis=2) < 120).sum() > 20  # black letters on a bright car


def test_letters_shrink_with_a_small_image_down_to_nine_pixels() -> None:
    assert [_letters(side) for side in (20, 250, 400, 500, 6000)] == [0.65, 0.65, 1.04, 1.3, 1.3]


def test_the_results_load_in_pycocotools_and_hold_the_rectangle_as_a_car() -> None:
    photo("000000000139.png")
    photo("000000000042.png")
    bright("*.png")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO("out/images.json")
        results = truth.loadRes("out/results.json")
    assert sorted(truth.imgs) == [42, 139]
    assert truth.imgs[139] == {"id": 139, "file_name": "000000000139.png", "width": 64, "height": 64}
    assert [truth.cats[index]["name"] for index in (1, 3)] == ["person", "car"]
    (car,) = results.loadAnns(results.getAnnIds(imgIds=[139]))
    assert (car["category_id"], car["area"], list(car["bbox"])) == (3, 128, [24, 40, 16, 8])
    assert 0.5 < car["score"] <= 1
    assert results.annToMask(car).sum() == 128


def test_an_image_on_its_side_is_predicted_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, :64] = 255
    Image.fromarray(pixels).save("side.jpg", exif=exif, quality=100)
    bright("side.jpg")
    found = mask("side.png")
    assert found.shape == (128, 64)
    assert (found[:60] == 2).all()
    assert (found[68:] == 0).all()
    assert read_json(OUT / "images.json", dict[str, Any])["images"] == [
        {"id": 1, "file_name": "side.jpg", "width": 64, "height": 128}
    ]


@pytest.mark.parametrize(
    ("rule", "rows"), [("auto", (16, 24)), ("follow", (16, 24)), ("ignore", (40, 48)), (None, (16, 24))]
)
def test_a_photo_upside_down_is_turned_unless_training_ignored_that(rule: str | None, rows: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(photo("plain.png")).save("photo.png", exif=exif)
    info = msgspec.structs.replace(BRIGHT, params={} if rule is None else {"exif": rule})

    predict(lambda: (Bright(), info), ["photo.png"], OUT, None, flips=False)

    found = np.flatnonzero(mask("photo.png").any(axis=1))
    assert (found[0], found[-1] + 1) == rows


def test_predictions_are_made_at_the_threshold_of_the_scores_or_at_the_one_that_is_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo("photo.png")
    best = BestThreshold(threshold=0.001, val_score=0.5)
    info = msgspec.structs.replace(REAL, task="binary", classes=BINARY.classes, categories=(), best_threshold=best)
    sha256 = save_checkpoint(Path("data/model"), build_model("fastscnn", "", "none", 1), info)

    def said(*arguments: str) -> tuple[str, int]:
        assert command("photo.png", "--out", "out", *arguments) == 0
        return capsys.readouterr().out.splitlines()[0], int(mask("photo.png").sum())

    below, above = "foreground is a probability above 0.001 (", "foreground is a probability above 0.999 ("
    assert said()[0] == "foreground is a probability above 0.5 (no scores name one; --threshold)"
    assert said("--threshold", "auto") == (f"{below}validation's best; --threshold)", 64 * 64)
    assert said("--threshold", "0.999") == (f"{above}as told; --threshold)", 0)
    write_json(Path("metrics/evaluate.json"), {"threshold": 0.999})
    Path("metrics/model_card.md").write_text("Weights `000000000000`")  # of another model
    assert said()[0].startswith("foreground is a probability above 0.5 (")
    Path("metrics/model_card.md").write_text(f"Weights `{sha256[:12]}`")
    assert said() == (f"{above}as in the scores; --threshold)", 0)
    assert command("photo.png", "--out", "out", "--threshold", "1.5") == 2
    assert "'1.5' is not a valid threshold; expected a number between 0 and 1, or auto" in capsys.readouterr().err


def test_with_flips_the_mirror_image_gets_the_mirrored_mask() -> None:
    torch.manual_seed(0)
    network = nn.Conv2d(3, 3, kernel_size=5, padding=2)  # sees left and right differently
    random = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name, pixels in (("plain.png", random), ("mirror.png", random[:, ::-1])):
        Image.fromarray(pixels).save(name)

    def agreement(flips: bool) -> float:
        predict(lambda: (network, REAL), ["plain.png", "mirror.png"], OUT, None, flips)
        return float((mask("plain.png") == mask("mirror.png")[:, ::-1]).mean())

    assert agreement(flips=False) < 0.9
    assert agreement(flips=True) > 0.999


def test_what_evaluate_predicts_is_what_predict_predicts() -> None:
    torch.manual_seed(0)
    network = build_model("fastscnn", "", "none", 3).eval()
    pairs = write_pairs(Path("data"), 5, size=48)
    evaluate(network, REAL, pairs, Path("evaluated"))
    predict(lambda: (network, REAL), ["data/images"], OUT, 2, flips=False)
    for pair in pairs:
        assert Path("evaluated", pair.file_name).read_bytes() == (OUT / "masks" / pair.file_name).read_bytes()


class OneSize(nn.Module):
    """Takes images of 64 pixels alone, as some encoders do."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert images.shape[-1] <= 128, "DefaultCPUAllocator: can't allocate memory"  # as torch says it
        assert images.shape[-1] == 64, "expected 64 pixels"
        return images


@pytest.mark.parametrize(
    ("scales", "border", "said"),
    [
        ((1.0,), "reflect", "--border reflect is for models with resize: crop"),
        ((1, 0.2), "none", "--scales 0.2 makes the network's input 13 pixels wide; expected 16 to 8000"),
        ((1, 2), "none", r"--scales 2 makes the .* 128 pixels wide, .* not take \(expected 64 pixels\); leave it out"),
        ((1, 4), "none", r"--scales 4 makes the .* 256 pixels wide, for which memory is too small; leave it out"),
    ],
)  # fmt: skip
def test_what_a_model_cannot_be_asked_for_is_said_before_anything_is_written(
    scales: tuple[float, ...], border: BorderName, said: str
) -> None:
    photo("photo.png")
    with pytest.raises(CocosegError, match=said):
        predict(lambda: (OneSize(), BRIGHT), ["photo.png"], OUT, None, False, scales=scales, border=border)
    assert not OUT.exists()


def test_a_model_that_was_trained_without_flips_is_not_asked_for_mirror_images() -> None:
    photo("photo.png")
    info = msgspec.structs.replace(BRIGHT, params={"flips": "none"})
    with pytest.raises(CocosegError, match=r"--tta averages .* trained with flips: none, .*; leave it out"):
        predict(lambda: (Bright(), info), ["photo.png"], OUT, None, flips=True)
    assert predict(lambda: (Bright(), info), ["photo.png"], OUT, None, flips=False).predicted == 1


def test_16_bits_that_hold_12_are_predicted_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    for name, high in (("raw/1.png", 4095), ("raw/2.png", 4095), ("raw/3.png", 65535)):
        photo(name)
        cv2.imwrite(name, np.full((64, 64), high, np.uint16))
    assert bright("raw").failed == 0
    said = capsys.readouterr().err
    assert "predict: 2 images, first raw/1.png, have 16 bits and no value of 4,096 or more; of 16 bits the" in said


@pytest.mark.parametrize("scales", ["0", "-1", "nan", "inf", "", "1,", "1,1", "a"])
def test_scales_that_mean_nothing_are_a_usage_error(scales: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("photo.png", "--out", "out", f"--scales={scales}") == 2
    assert "expected different numbers above 0, such as 0.75,1,1.25" in capsys.readouterr().err


@pytest.mark.parametrize("resize", ["squash", "letterbox", "crop"])
def test_the_smallest_image_has_scales_and_a_border_too(resize: ResizeName) -> None:
    Image.new("RGB", (2, 2), "white").save("smallest.png")
    info = msgspec.structs.replace(BRIGHT, preprocessing=Preprocessing(image_size_px=64, resize=resize))
    border: BorderName = "reflect" if resize == "crop" else "none"
    predict(lambda: (Bright(), info), ["smallest.png"], OUT, None, True, scales=(0.3, 1, 2), border=border)
    assert mask("smallest.png").tolist() == [[2, 2], [2, 2]]


def test_an_image_that_grows_too_large_at_a_scale_is_named_and_the_others_are_predicted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    photo("photo.png", 48, 48)
    Image.new("RGB", (5000, 4000), "white").save("large.png")
    info = msgspec.structs.replace(BRIGHT, preprocessing=Preprocessing(image_size_px=64, resize="crop"))
    summary = predict(lambda: (Bright(), info), ["photo.png", "large.png"], OUT, None, False, scales=(1, 20))
    assert "large.png: 5000×4000 pixels would become 100000×80000 in the network; expected at most 200 megapixels" in (
        capsys.readouterr().err
    )
    assert (summary.predicted, summary.failed) == (1, 1)


def test_in_a_batch_each_bad_image_is_a_line_the_rest_goes_through_and_the_summary_counts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_checkpoint(Path("data/model"), build_model("fastscnn", "", "none", 3), REAL)
    photo("photos/good.png")
    photo("photos/turned.png", 100, 80)
    Path("photos/notes.jpg").write_text("Dear diary,")
    Image.new("RGB", (1, 1)).save("photos/one.png")
    Image.new("RGBA", (8, 8)).save("photos/clear.png")
    frames = [Image.new("RGB", (16, 16), color) for color in ("black", "white")]
    frames[0].save("photos/moving.gif", save_all=True, append_images=frames[1:])
    Path("empty").mkdir()
    assert command("photos", "empty", "photos/gone.jpg", "--out", "out") == 1
    said, told = capsys.readouterr()
    assert said.startswith("2 images predicted, 6 failed; ")
    assert "; to look at: out/overlays, colors in out/legend.png; to compute with: out/masks, " in said
    lines = [line for line in told.splitlines() if line.startswith("cocoseg predict: ")]
    assert [line.split(":")[1].strip() for line in sorted(lines)] == [
        "empty", "photos/clear.png", "photos/gone.jpg", "photos/moving.gif", "photos/notes.jpg", "photos/one.png",
    ]  # fmt: skip
    assert sorted(path.name for path in Path("out/masks").iterdir()) == ["good.png", "turned.png"]
    assert len(read_json(OUT / "images.json", dict[str, Any])["images"]) == 2


def test_a_folder_may_be_predicted_into_itself_again_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(Path("data/model"), build_model("fastscnn", "", "none", 3), REAL)
    photo("photos/1.png")
    for earlier in ("", ", in place of those of an earlier run"):
        assert command("photos", "--out", "photos") == 0
        assert capsys.readouterr().out.startswith(f"1 image predicted{earlier}; ")


def test_what_an_earlier_run_has_left_is_not_taken_for_the_results_of_one_that_failed() -> None:
    save_checkpoint(Path("data/model"), build_model("fastscnn", "", "none", 3), REAL)
    assert command(str(photo("photos/a.png")), str(photo("photos/b.png")), "--out", "out") == 0
    Path("photos/a.png").write_text("Dear diary,")
    assert command("photos", "--out", "out") == 1
    assert [path.name for path in sorted(OUT.rglob("*.*g"))] == ["legend.png", "b.png", "b.jpg"]
    Path("photos/b.png").write_text("Dear diary,")
    assert command("photos", "--out", "out") == 1
    assert [path.name for path in OUT.rglob("*.*")] == ["legend.png"]


def test_masks_that_predict_did_not_write_are_never_touched(capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(Path("data/model"), build_model("fastscnn", "", "none", 3), REAL)
    photo("mine/images/a.png")
    photo("mine/masks/a.png")  # drawn by hand
    before = Path("mine/masks/a.png").read_bytes()
    assert command("mine/images", "--out", "mine") == 1
    told = (
        "cocoseg predict: mine: holds masks that predict did not write, such as a.png; name another folder for --out\n"
    )
    assert capsys.readouterr().out == told
    assert Path("mine/masks/a.png").read_bytes() == before


def test_masks_of_other_images_and_a_model_that_is_not_there_leave_an_earlier_run_as_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_checkpoint(Path("data/model"), build_model("fastscnn", "", "none", 3), REAL)
    photo("photos/a.png")
    photo("photos/b.png")
    assert command("photos", "--out", "out") == 0
    before = {path: path.read_bytes() for path in OUT.rglob("*.*")}
    capsys.readouterr()
    assert command("photos/b.png", "--out", "out") == 1
    assert capsys.readouterr().out == (
        "cocoseg predict: out: holds masks of images that this run does not predict (1, such as a.png); name another "
        "folder, or delete out/masks and out/overlays\n"
    )
    assert command("photos", "--out", "out", "--model", "gone") == 1
    assert {path: path.read_bytes() for path in OUT.rglob("*.*")} == before


def test_a_model_that_cannot_be_read_is_not_blamed_on_the_folder_for_predictions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("model/model.json").mkdir(parents=True)
    assert command(str(photo("photo.png")), "--model", "model", "--out", "out") == 1
    assert capsys.readouterr().out == "cocoseg predict: model/model.json: Is a directory\n"


def test_where_nothing_is_an_image_no_model_is_loaded_and_nothing_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.jpg").write_text("Dear diary,")
    assert command("notes.jpg", "--out", "a/b") == 1  # without a model, of which it says nothing
    assert capsys.readouterr().err.splitlines() == [f"cocoseg predict: notes.jpg: not an image; expected {READABLE}"]
    assert not Path("a").exists()
    Path("mine").mkdir()
    assert command("notes.jpg", "--out", "mine") == 1
    assert Path("mine").is_dir()


def test_a_file_that_is_no_image_does_not_take_the_others_their_numbers() -> None:
    for name in ("photos/000000000139.png", "photos/000000000042.png"):
        photo(name)
    Path("photos/notes.jpg").write_text("Dear diary,")
    assert bright("photos") == Summary(predicted=2, failed=1)
    assert [image["id"] for image in read_json(OUT / "images.json", dict[str, Any])["images"]] == [42, 139]
    assert {result["image_id"] for result in read_json(OUT / "results.json", list[dict[str, Any]])} == {42, 139}


def test_a_shape_that_would_be_gigantic_to_the_network_is_a_line_and_the_rest_goes_through(
    capsys: pytest.CaptureFixture[str],
) -> None:
    short_side = msgspec.structs.replace(BRIGHT.preprocessing, resize="short_side")
    info = msgspec.structs.replace(BRIGHT, preprocessing=short_side)
    photo("photos/1.png")
    Image.new("RGB", (40_000, 2)).save("photos/2.png")  # 64 × 1,280,000 to the network
    assert predict(lambda: (Bright(), info), ["photos"], OUT, None, flips=False) == Summary(predicted=1, failed=1)
    line = "photos/2.png: 40000×2 pixels would become 1280000×64 in the network; expected at most 64 megapixels"
    assert line in capsys.readouterr().err


def test_where_all_is_background_the_summary_says_that_pycocotools_loads_no_empty_results(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocoseg.commands.model_source.load_checkpoint", lambda _: (Bright(), BRIGHT))
    Image.new("RGB", (64, 64)).save("black.png")
    assert command("black.png", "--out", "out") == 0
    assert "no class was found, and pycocotools cannot load empty results" in capsys.readouterr().out


def test_the_command_line_hands_on_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def ask(*arguments: Any, flips: bool, threshold: object, scales: tuple[float, ...], border: str) -> Summary:
        asked.append((arguments[-1], flips, scales, border))
        return Summary(predicted=1, failed=0)

    monkeypatch.setattr("cocoseg.commands.model_source.load_checkpoint", lambda _: (Bright(), BRIGHT))
    monkeypatch.setattr("cocoseg.commands.predict.predict.predict", ask)
    options = ("--batch-size", "3", "--tta", "--scales", "0.5,1", "--border", "reflect")
    assert command("photo.png", "--out", "out", *options) == 0
    assert command("photo.png", "--out", "out") == 0
    assert asked == [(3, True, (0.5, 1), "reflect"), (None, False, (1,), "none")]


@pytest.mark.parametrize("bad", ["notes.jpg", "empty", "one.png", "gone.jpg", "no*.png"])
def test_a_command_line_without_a_good_image_exits_with_1_after_one_line(
    bad: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(Path("data/model"), build_model("fastscnn", "", "none", 3), REAL)
    Path("notes.jpg").write_text("Dear diary,")
    Path("empty").mkdir()
    Image.new("RGB", (1, 1)).save("one.png")
    assert command(bad, "--out", "out") == 1
    said, told = capsys.readouterr()
    assert said == ""
    assert [line.startswith(f"cocoseg predict: {bad}: ") for line in told.splitlines()] == [True]
    assert not Path("out/results.json").exists()


def test_without_a_model_the_line_says_which_command_makes_one(capsys: pytest.CaptureFixture[str]) -> None:
    photo("photo.png")
    assert command("photo.png", "--out", "out") == 1
    said = capsys.readouterr().out
    assert said.startswith("cocoseg predict: data/model: no model.json; train a model with: dvc repro, or ")
    assert said.count("\n") == 1


def test_two_commands_never_write_into_one_folder_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    photo("photo.png")
    with prepared_folder(Path("out")):
        assert command("photo.png", "--out", "out") == 1
    assert capsys.readouterr().out == (
        "cocoseg predict: out: another cocoseg command is writing there; wait until it ends, or choose another folder\n"
    )
    with prepared_folder(Path("out")):  # free again
        pass
    assert not Path("out").exists()


@pytest.mark.parametrize("out", ["photo.png", "photo.png/out", "/proc/out"])
def test_an_output_folder_that_cannot_be_written_is_one_line(out: str, capsys: pytest.CaptureFixture[str]) -> None:
    photo("photo.png")
    assert command("photo.png", "--out", out) == 1
    assert f"cocoseg predict: {out}: cannot be written (" in capsys.readouterr().out


def test_a_batch_size_of_nothing_means_nothing() -> None:
    assert command("photo.png", "--out", "out", "--batch-size", "0") == 2


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Make a repository of git and DVC: without a model at `before`, then with one that is not in the workspace."""
    clone = Clone(tmp_path_factory.mktemp("repository"))
    clone.git("init", "--quiet", "--initial-branch=main")
    clone.git("config", "user.name", "A. Tester")
    clone.git("config", "user.email", "tester@example.org")
    clone.dvc("init", "--quiet")
    clone.dvc("remote", "add", "--default", "store", str(tmp_path_factory.mktemp("store")))
    (clone.folder / "dvc.yaml").write_text("stages: {}\n")
    clone.commit("before")
    clone.git("tag", "before")
    torch.manual_seed(0)
    save_checkpoint(clone.folder / "data/model", build_model("fastscnn", "", "none", 3), REAL)
    clone.dvc("add", "data/model")
    clone.dvc("push")
    clone.commit("with a model")
    shutil.rmtree(clone.folder / "data/model")
    return clone


def test_the_model_of_a_revision_needs_no_checkout(
    repository: Clone, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = photo("photo.png").absolute()
    monkeypatch.chdir(repository.folder)
    assert command(str(path), "--out", str(here / "out"), "--rev", "main") == 0
    assert (here / "out/masks/photo.png").exists()
    capsys.readouterr()
    assert command(str(path), "--out", str(here / "out"), "--rev", "before") == 1
    assert capsys.readouterr().out.startswith("cocoseg predict: before: data/model: model not found; expected a rev")
    assert command(str(path), "--out", str(here / "out"), "--rev", "ochre-wisp") == 1
    assert "ochre-wisp: neither a git revision nor an experiment" in capsys.readouterr().out


@pytest.fixture(scope="module")
def monorepo(repository: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Make a repository of git that has the other one as a folder, with a card of its model."""
    outer = Clone(tmp_path_factory.mktemp("monorepo"))
    inner = outer.folder / "team/säge 1"
    shutil.copytree(repository.folder, inner, ignore=shutil.ignore_patterns(".git", "cache", "tmp"))
    (inner / "metrics").mkdir()
    (inner / "metrics/model_card.md").write_text("ours\n")
    outer.git("init", "--quiet", "--initial-branch=main")
    outer.git("config", "user.name", "A. Tester")
    outer.git("config", "user.email", "tester@example.org")
    outer.commit("all")
    return outer


def test_the_model_of_a_revision_of_a_monorepo_is_read(
    monorepo: Clone, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = photo("photo.png").absolute()
    monkeypatch.chdir(monorepo.folder / "team/säge 1")
    assert command(str(path), "--out", str(here / "out"), "--rev", "main") == 0
    assert ModelSource("data/model", "main").beside("metrics/model_card.md") == b"ours\n"


# dulwich, with which DVC clones, leaves its pack files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_model_of_a_monorepo_elsewhere_is_named_by_its_path_there(
    monorepo: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    photo("photo.png")
    root, below, model = str(monorepo.folder), str(monorepo.folder / "team/säge 1"), "team/säge 1/data/model"
    ways = [(f"file://{root}", model, None), (root, model, None), (root, model, "main"), (below, "data/model", None),
            (below, "data/model", "main")]  # fmt: skip
    for repo, folder, rev in ways:
        shutil.rmtree(OUT, ignore_errors=True)
        revision = () if rev is None else ("--rev", rev)
        assert command("photo.png", "--out", "out", "--repo", repo, "--model", folder, *revision) == 0
        assert ModelSource(folder, rev, repo).beside("metrics/model_card.md") == b"ours\n"
    capsys.readouterr()
    assert command("photo.png", "--out", "out", "--repo", root) == 1
    assert "; of a folder in that repository, name --model FOLDER/data/model" in capsys.readouterr().out
    assert command("photo.png", "--out", "out", "--repo", below, "--rev", "gone") == 1
    assert "säge 1@gone: cannot be opened (" in capsys.readouterr().out
    gc.collect()


# dulwich, with which DVC clones, leaves its pack files to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_model_of_another_repository_is_read_through_dvc(
    repository: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    photo("photo.png")
    url = f"file://{repository.folder}"
    for repo in (str(repository.folder), url):
        shutil.rmtree(OUT, ignore_errors=True)
        assert command("photo.png", "--out", "out", "--repo", repo) == 0
        assert mask("photo.png").shape == (64, 64)
    capsys.readouterr()
    for rev, said in (("before", "@before: data/model: model not found"), ("gone", "@gone: cannot be opened (")):
        assert command("photo.png", "--out", "out", "--repo", url, "--rev", rev) == 1
        assert said in capsys.readouterr().out
    assert command("photo.png", "--out", "out", "--repo", "https://me:secret@127.0.0.1:9/none") == 1
    said = capsys.readouterr().out
    assert "https://127.0.0.1:9/none: cannot be opened (" in said
    assert "secret" not in said
    gc.collect()
