import io
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import timm
import torch
from clones import git_repository
from lightning_fabric import Fabric
from small_data import BINARY, MULTICLASS, write_pairs
from tqdm import tqdm

from cocoseg.coco.categories import CategoryMapping
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import read_json, write_bytes
from cocoseg.images.pairs import Pair
from cocoseg.model.weights import load_checkpoint
from cocoseg.train.dataset import crop_counts
from cocoseg.train.loop import LAG, train
from cocoseg.train.params import LossName, TrainParams
from cocoseg.train.run_data import RunData
from cocoseg.train.validation import batch_confusion, validate

PARAMS = TrainParams(
    task="multiclass",
    arch="fastscnn",
    encoder="tu-mobilenetv3_small_050",
    pretrained="none",
    initial_weights="weights",
    encoder_lr_factor=1.0,
    freeze_encoder_epochs=0,
    image_size_px=32,
    resize="squash",
    crops_per_image=None,
    exif="auto",
    augment="none",
    flips="horizontal",
    sampling="uniform",
    loss="auto",
    class_weights="none",
    label_smoothing=0,
    optimizer="adamw",
    lr=0.01,
    weight_decay=0.01,
    schedule="poly",
    warmup_epochs=1,
    batch_size=4,
    accumulate_batches=1,
    clip_grad_norm=None,
    epochs=2,
    patience=None,
    primary_score="auto",
    ema_decay=None,
    compile=False,
    seed=0,
)


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a commit: dvclive asks git for it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COCOSEG_CACHE", str(tmp_path / "cache"))
    git_repository(tmp_path)
    write_bytes(tmp_path / "weights/README.md", b"no model")
    return tmp_path


def run_data(
    train: Sequence[Pair],
    val: Sequence[Pair],
    mapping: CategoryMapping = MULTICLASS,
    class_weights: Sequence[float] | None = None,
) -> RunData:
    return RunData(mapping=mapping, train=train, val=val, class_weights=class_weights, fingerprint="fingerprint")


def run(params: TrainParams, pairs: Sequence[Pair], mapping: CategoryMapping = MULTICLASS, name: str = "run") -> Path:
    folder = Path(name)
    train(params, run_data(pairs, pairs[:4], mapping), folder / "model", folder / "live")
    return folder


def metrics(folder: Path) -> dict[str, str]:
    """Every file of the log, by name."""
    live = folder / "live"
    return {str(path.relative_to(live)): path.read_text() for path in sorted(live.rglob("*.[tj]s*"))}


def test_a_few_images_are_learned_and_the_best_epoch_is_kept(repository: Path) -> None:
    pairs = write_pairs(repository, 8)
    folder = run(msgspec.structs.replace(PARAMS, epochs=30), pairs)
    model, info = load_checkpoint(folder / "model")
    assert info.val_miou > 0.6
    curve = [float(line.split("\t")[1]) for line in metrics(folder)["plots/metrics/val/miou.tsv"].splitlines()[1:]]
    assert len(curve) == 30
    assert info.val_miou == pytest.approx(max(curve), rel=1e-5)
    assert info.epoch == 1 + int(np.argmax(curve))
    assert not model.training


class Terminal(io.StringIO):
    """Standard error as a terminal."""

    def isatty(self) -> bool:
        return True


def test_in_a_terminal_a_bar_moves_within_the_epoch_and_a_line_remains_of_each(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr("cocoseg.train.loop.tqdm", partial(tqdm, mininterval=0))  # drawn anew at every batch
    run(PARAMS, write_pairs(repository, 8))
    shown = terminal.getvalue()
    assert [batch for batch in range(7) if f"{batch}/6 [" in shown] == list(range(7))  # 2 of training, 1 of validation
    for epoch in (1, 2):
        assert re.search(rf"train: epoch {epoch} of 2: +\d+%", shown)
        assert re.search(rf"\rtrain: epoch {epoch} of 2: loss [\d.]+, .* s\n", shown)


def test_the_log_has_a_point_an_epoch_and_a_summary(repository: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = run(PARAMS, write_pairs(repository, 8))
    said = capfd.readouterr().err.splitlines()[:2]  # no terminal: no bar
    line = r"train: epoch {} of 2: loss \d\.\d{{3}}, val loss \d\.\d{{3}}, val mIoU 0\.\d{{3}}, best: [12], \d\.\d s"
    assert [bool(re.fullmatch(line.format(epoch), text)) for epoch, text in enumerate(said, 1)] == [True, True], said
    log = metrics(folder)
    names = ["train/loss", "val/loss", "val/miou", "val/dice", "val/pixel_accuracy", "lr"]
    names += [f"val/{score}/{name}" for score in ("iou", "dice") for name in MULTICLASS.classes]
    for name in names:
        assert len(log[f"plots/metrics/{name}.tsv"].splitlines()) == 1 + PARAMS.epochs
    summary = read_json(folder / "live" / "metrics.json", dict[str, object])
    assert {"best", "train", "val", "lr", "step"} <= summary.keys()
    assert (folder / "live" / "plots" / "images" / "validation.png").stat().st_size < 400_000


def test_a_loss_of_statistics_that_lag_is_explained_once(
    repository: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([10.9, 20.0, 35.6])  # ten times the loss of equal logits is 11.0
    monkeypatch.setattr(
        "cocoseg.train.loop.validate", lambda *given: msgspec.structs.replace(validate(*given), loss=next(losses))
    )
    run(msgspec.structs.replace(PARAMS, epochs=3, loss="ce", lr=1e-4), write_pairs(repository, 8))
    assert [line == f"train: {LAG}" for line in capfd.readouterr().err.splitlines()[:4]] == [False, False, True, False]


def test_the_same_seed_gives_the_same_metrics_and_another_does_not(repository: Path) -> None:
    pairs = write_pairs(repository, 8)
    params = msgspec.structs.replace(PARAMS, augment="strong")
    first, second = run(params, pairs, name="first"), run(params, pairs, name="second")
    other = run(msgspec.structs.replace(params, seed=1), pairs, name="other")
    assert metrics(first) == metrics(second)
    assert (first / "model" / "model.safetensors").read_bytes() == (second / "model" / "model.safetensors").read_bytes()
    assert metrics(first) != metrics(other)


@pytest.mark.parametrize("resize", ["letterbox", "short_side"])
def test_binary_trains_on_one_channel_under_every_resize(repository: Path, resize: str) -> None:
    pairs = write_pairs(repository, 6, BINARY)
    params = msgspec.structs.replace(
        PARAMS, task="binary", resize=resize, optimizer="sgd", lr=1e-4, schedule="constant"
    )
    folder = run(params, pairs, BINARY)
    model, info = load_checkpoint(folder / "model")
    with torch.inference_mode():
        assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 32, 32)
    assert info.classes == ("background", "foreground")


def test_crops_train_and_validate_images_of_any_size_at_their_own_size(repository: Path) -> None:
    pairs = write_pairs(repository, 4, size=150) + write_pairs(repository / "small", 2, size=40)
    params = msgspec.structs.replace(PARAMS, resize="crop", image_size_px=64, batch_size=2)
    folder = run(params, [msgspec.structs.replace(pair, file_name=f"{n}.png") for n, pair in enumerate(pairs)])
    _, info = load_checkpoint(folder / "model")
    assert (info.preprocessing.resize, info.preprocessing.image_size_px) == ("crop", 64)


def test_an_epoch_shows_as_many_crops_as_have_the_pixels_of_their_image_or_as_many_as_are_asked_for(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = msgspec.structs.replace(PARAMS, resize="crop", image_size_px=64)
    large, small = write_pairs(repository, 1, size=200), write_pairs(repository / "small", 1, size=40)
    assert crop_counts(large + small, params) == [10, 1]  # 200² / 64² = 9.8
    assert crop_counts(large + small, msgspec.structs.replace(params, crops_per_image=3)) == [3, 3]
    said = capsys.readouterr().err.splitlines()
    assert said == ["train: an epoch shows 11 crops of 2 images", "train: an epoch shows 6 crops of 2 images"]
    with pytest.raises(ValueError, match="crops_per_image is 3, which has no effect on resize: squash; expected null"):
        msgspec.structs.replace(PARAMS, crops_per_image=3)


def test_a_crop_larger_than_every_image_is_refused_and_than_most_is_said(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = msgspec.structs.replace(PARAMS, resize="crop", image_size_px=64)
    with pytest.raises(CocosegError, match=r"image_size_px 64 is larger than every training image; .* side is 32: "):
        run(params, write_pairs(repository, 6))
    for large, said in ((1, True), (3, False)):  # of four
        pairs = write_pairs(repository / f"large{large}", large, size=64) + write_pairs(repository / "small", 4 - large)
        run(msgspec.structs.replace(params, epochs=1), pairs, name=f"large{large}")
        told = (
            "train: 3 of 4 training images are smaller than a crop of 64 pixels, and what lies outside them is ignored"
        )
        assert (told in capsys.readouterr().err) == said
    with pytest.raises(ValueError, match="image_size_px is 32; expected at least 64 with resize: crop"):
        msgspec.structs.replace(params, image_size_px=32)


def test_a_loss_that_is_no_number_stops_with_epoch_and_batch(repository: Path) -> None:
    params = msgspec.structs.replace(PARAMS, lr=1e30, warmup_epochs=0, optimizer="sgd", epochs=5)
    with pytest.raises(CocosegError, match=r"^the loss is not a finite number in epoch \d+, batch \d+"):
        run(params, write_pairs(repository, 8))


def test_an_empty_side_is_named(repository: Path) -> None:
    pairs = write_pairs(repository, 2)
    for train_pairs, val_pairs, side in (([], pairs, "train"), (pairs, [], "val")):
        with pytest.raises(CocosegError, match=rf"splits/{side}\.txt: no images"):
            train(PARAMS, run_data(train_pairs, val_pairs), repository / "model", repository / "live")


def test_validation_without_a_pixel_that_counts_is_named(repository: Path) -> None:
    pairs = write_pairs(repository, 6)
    for pair in pairs[:4]:
        pair.mask.write_bytes(cv2.imencode(".png", np.full((32, 32), 255, np.uint8))[1].tobytes())
    with pytest.raises(CocosegError, match=r"every pixel in the masks of these images is ignored \(255\)"):
        run(PARAMS, pairs)


def test_images_that_are_ignored_all_over_do_not_lower_a_loss(repository: Path) -> None:
    pairs = write_pairs(repository, 4)
    for pair in pairs[2:]:
        cv2.imwrite(str(pair.mask), np.full((32, 32), 255, np.uint8))
    params = msgspec.structs.replace(PARAMS, resize="short_side", batch_size=2, lr=1e-30, epochs=1)
    for name, val in (("without", pairs[:1]), ("with", [pairs[3], pairs[0]])):
        train(params, run_data(pairs[:2], val), Path(name, "model"), Path(name, "live"))
    assert curve(Path("with"), "val/loss") == curve(Path("without"), "val/loss")

    own = partial(train, params, model_folder=Path("twice/model"), log_folder=Path("twice/live"))
    with pytest.MonkeyPatch.context() as patch:  # one batch of those that count, and one of the others
        patch.setattr("cocoseg.train.dataset.torch.randperm", lambda count, generator: torch.arange(count))
        own(data=run_data(pairs, pairs[:1]))
    assert curve(Path("twice"), "train/loss") == curve(Path("without"), "train/loss")


def test_without_a_commit_the_log_cannot_name_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = tmp_path / "fresh"
    (fresh / ".dvc").mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", str(fresh)], check=True)
    write_bytes(fresh / "weights/README.md", b"no model")
    monkeypatch.chdir(fresh)
    with pytest.raises(CocosegError, match="no commit yet"):
        run(PARAMS, write_pairs(fresh, 4))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"loss": "bce"}, "loss is bce, which is for two classes; expected another, such as ce"),
        (
            {"loss": "dice", "label_smoothing": 0.1},
            "label_smoothing is 0.1, which has no effect on loss: dice; expected 0, or one of the losses auto, ce, ",
        ),
        ({"loss": "focal", "label_smoothing": 0.1}, "label_smoothing is 0.1, which has no effect on loss: focal; "),
        (
            {"flips": "all"},
            "flips is all, which has no effect on augment: none; expected none, horizontal, or augment: ",
        ),
        (
            {"loss": "lovasz", "class_weights": "inverse"},
            "class_weights is inverse, which has no effect on loss: lovasz",
        ),
    ],
)
def test_what_cannot_work_or_has_no_effect_is_refused_with_the_alternatives(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=line):
        msgspec.convert({**msgspec.to_builtins(PARAMS), **changes}, TrainParams)


def test_the_confusion_matrix_of_a_batch_leaves_out_255() -> None:
    target = torch.tensor([[[0, 1, 1, 255]]], dtype=torch.uint8)
    prediction = torch.tensor([[[0, 0, 1, 1]]], dtype=torch.uint8)
    assert batch_confusion(target, prediction, 2).tolist() == [[1, 0], [1, 1]]


def curve(folder: Path, name: str) -> list[float]:
    return [float(line.split("\t")[1]) for line in metrics(folder)[f"plots/metrics/{name}.tsv"].splitlines()[1:]]


def test_patience_stops_a_run_that_no_longer_gets_better(repository: Path) -> None:
    params = msgspec.structs.replace(PARAMS, lr=1e-12, schedule="constant", warmup_epochs=0, epochs=30, patience=3)
    folder = run(params, write_pairs(repository, 8))
    _, info = load_checkpoint(folder / "model")
    assert len(curve(folder, "val/miou")) == info.epoch + 3 < 30


@pytest.mark.parametrize(("together", "steps"), [(1, 6), (2, 4), (5, 2)])
def test_so_many_batches_make_one_step(
    repository: Path, monkeypatch: pytest.MonkeyPatch, together: int, steps: int
) -> None:
    taken: list[int] = []
    step = torch.optim.AdamW.step

    def counting(optimizer: torch.optim.AdamW, *rest: Any) -> Any:
        taken.append(1)
        return step(optimizer, *rest)

    monkeypatch.setattr(torch.optim.AdamW, "step", counting)
    # 12 images in batches of 4 are 3 batches an epoch, in 2 epochs
    run(msgspec.structs.replace(PARAMS, accumulate_batches=together), write_pairs(repository, 12))
    assert len(taken) == steps


def test_clipped_gradients_move_the_weights_no_further_than_their_norm_times_lr(repository: Path) -> None:
    pairs = write_pairs(repository, 4)
    still = msgspec.structs.replace(
        PARAMS, optimizer="sgd", weight_decay=0, schedule="constant", warmup_epochs=0, epochs=1
    )
    moved = {}
    for name, changes in (("start", {"lr": 1e-30}), ("clipped", {"lr": 1.0, "clip_grad_norm": 0.001})):
        params = msgspec.structs.replace(still, **changes)
        model, _ = load_checkpoint(run(params, pairs, name=name) / "model")
        moved[name] = torch.cat([parameter.flatten() for parameter in model.parameters()])
    # one batch of four images, so one step of SGD, at lr 1
    assert torch.linalg.norm(moved["clipped"] - moved["start"]).item() == pytest.approx(0.001, rel=0.01)


def test_the_average_of_weights_is_what_is_kept(repository: Path) -> None:
    pairs = write_pairs(repository, 4)
    weights = {}
    for name, decay in (("last", None), ("average", 0.5)):
        params = msgspec.structs.replace(PARAMS, epochs=1, optimizer="sgd", ema_decay=decay)
        model, _ = load_checkpoint(run(params, pairs, name=name) / "model")
        weights[name] = torch.cat([parameter.flatten() for parameter in model.parameters()])
    # After its first step an average is that step's weights.
    torch.testing.assert_close(weights["average"], weights["last"])
    params = msgspec.structs.replace(PARAMS, epochs=4, ema_decay=0.999)
    model, _ = load_checkpoint(run(params, pairs, name="slow") / "model")
    assert all(parameter.isfinite().all() for parameter in model.state_dict().values())


@pytest.mark.parametrize("loss", ["ce", "ohem", "dice", "ce_dice", "ce_lovasz", "focal", "lovasz", "tversky"])
@pytest.mark.parametrize("rule", [None, (0.5, 1.0, 1.5)])
def test_every_loss_trains_with_and_without_class_weights(
    repository: Path, loss: LossName, rule: tuple[float, ...] | None
) -> None:
    pairs = write_pairs(repository, 4)
    params = msgspec.structs.replace(PARAMS, epochs=1, loss=loss)
    train(params, run_data(pairs, pairs, class_weights=rule), Path("model"), Path("live"))
    assert load_checkpoint(Path("model"))[1].params["loss"] == loss


def test_memory_that_does_not_suffice_is_one_line_with_a_smaller_batch(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("cocoseg.train.loop.segmentation_loss", full)
    with pytest.raises(CocosegError, match=r"batch_size 4 .* try batch_size: 2 with accumulate_batches: 2") as caught:
        run(PARAMS, write_pairs(repository, 8))
    assert "\n" not in str(caught.value)


def test_a_binary_run_keeps_the_epoch_with_the_best_foreground_dice_and_its_threshold(repository: Path) -> None:
    params = msgspec.structs.replace(PARAMS, task="binary", epochs=30)
    folder = run(params, write_pairs(repository, 8, BINARY), BINARY)
    _, info = load_checkpoint(folder / "model")
    points = curve(folder, "val/foreground_dice")
    assert max(points) > 0.3
    assert (info.primary_score, info.epoch) == ("foreground_dice", 1 + int(np.argmax(points)))
    assert info.val_score == pytest.approx(max(points), rel=1e-5)
    assert info.best_threshold is not None
    assert max(points) - 1e-5 <= info.best_threshold.val_score <= 1
    best = read_json(folder / "live" / "best.json", dict[str, float])
    assert best == {"best_epoch": info.epoch, "val_foreground_dice": pytest.approx(info.val_score, rel=1e-5)}


def test_patience_does_not_count_epochs_that_find_nothing_and_the_end_of_such_a_run_is_warned_of(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still = {"lr": 1e-12, "schedule": "constant", "warmup_epochs": 0, "optimizer": "sgd"}
    params = msgspec.structs.replace(PARAMS, task="binary", epochs=6, patience=1, **still)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cocoseg.train.validation.predicted_labels", lambda logits: torch.zeros_like(logits[:, 0]).byte())
        folder = run(params, write_pairs(repository, 4, BINARY), BINARY)
    assert len(curve(folder, "val/foreground_dice")) == 6
    assert "train: the best epoch predicts nothing but background on the validation side" in capsys.readouterr().err


def test_images_are_normalized_as_the_encoders_weights_expect_and_the_model_says_so(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = timm.create_model
    # Without the download.
    monkeypatch.setattr(timm, "create_model", lambda name, **options: create(name, **options | {"pretrained": False}))
    params = msgspec.structs.replace(
        PARAMS, arch="unet", encoder="tu-mobilenetv4_conv_small_050", pretrained="imagenet", epochs=1
    )
    _, info = load_checkpoint(run(params, write_pairs(repository, 4)) / "model")
    assert (info.preprocessing.mean, info.preprocessing.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def test_a_smaller_last_batch_of_a_step_counts_by_its_images(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float] = []
    backward = Fabric.backward

    def noting(fabric: Fabric, loss: torch.Tensor, *rest: Any) -> None:
        shares.append(loss.item())
        backward(fabric, loss, *rest)

    monkeypatch.setattr(Fabric, "backward", noting)
    monkeypatch.setattr("cocoseg.train.loop.segmentation_loss", lambda output, *_: output.sum() * 0 + 1)
    # 10 images in batches of 4, 4 and 2, of which three make a step
    run(msgspec.structs.replace(PARAMS, accumulate_batches=3, epochs=1), write_pairs(repository, 10))
    assert shares == pytest.approx([0.4 * 31 / 32, 0.4 * 31 / 32, 0.2 * 31 / 32])  # of 32 rows the first is ignored


def test_accumulated_batches_step_as_one_whatever_their_borders(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = write_pairs(repository, 4)
    for pair in pairs[:3]:  # so of two batches one has two of them
        mask = cv2.imread(str(pair.mask), cv2.IMREAD_UNCHANGED)
        assert mask is not None
        mask[:, 2:] = 255
        cv2.imwrite(str(pair.mask), mask)
    monkeypatch.setenv("COCOSEG_PRECISION", "32")
    # A network without statistics of its batch; a step of SGD is the gradient.
    monkeypatch.setattr("cocoseg.train.learner.build_model", lambda *_: torch.nn.Conv2d(3, 3, 1))
    monkeypatch.setattr("cocoseg.model.weights.build_model", lambda *_: torch.nn.Conv2d(3, 3, 1))
    one_step = msgspec.structs.replace(PARAMS, optimizer="sgd", loss="ce", epochs=1)
    models = [
        load_checkpoint(run(msgspec.structs.replace(one_step, **batches), pairs, name=f"run{number}") / "model")[0]
        for number, batches in enumerate([{"batch_size": 4}, {"batch_size": 2, "accumulate_batches": 2}])
    ]
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict())


def test_asked_for_it_training_takes_deterministic_algorithms(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COCOSEG_DETERMINISTIC", "1")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    pairs = write_pairs(repository, 4)
    try:
        folder = run(msgspec.structs.replace(PARAMS, epochs=1), pairs, name="deterministic")
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)
    monkeypatch.delenv("COCOSEG_DETERMINISTIC")
    other = run(msgspec.structs.replace(PARAMS, epochs=1), pairs, name="other")
    assert curve(folder, "train/loss") == pytest.approx(curve(other, "train/loss"), rel=1e-4)
