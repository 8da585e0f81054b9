"""`cocoseg export`: files that other runtimes load, and that give what PyTorch gives."""

import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from huggingface_hub import ModelCard
from model.test_weights import INFO as TRAINED
from numpy.typing import NDArray
from PIL import Image
from ruamel.yaml import YAML
from small_data import MULTICLASS
from torch import nn

from cocoseg.cli import main
from cocoseg.commands.export.export import export
from cocoseg.commands.export.hub_card import front_matter
from cocoseg.commands.export.huggingface import stride_of
from cocoseg.commands.export.onnx import adaptive_mean, agreement, onnx_bytes
from cocoseg.commands.export.readme import huggingface_use, onnx_use
from cocoseg.commands.model_source import ModelSource
from cocoseg.commands.predict.photos import decode_photo, open_photo
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import write_json, write_table
from cocoseg.evaluate.prediction import joined_labels, predict_logits
from cocoseg.evaluate.restore import original_labels
from cocoseg.model.architectures import build_model
from cocoseg.model.params import ResizeName
from cocoseg.model.preprocessing import MEAN, Preprocessing
from cocoseg.model.weights import InitialWeights, ModelInfo, load_checkpoint, save_checkpoint
from cocoseg.tables import ClassPixels

ENCODER = "tu-mobilenetv3_small_050"
INFO = msgspec.structs.replace(TRAINED, categories=MULTICLASS.categories)
# The exporter's own, of torch's pytree.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trained(arch: str, encoder: str = "") -> nn.Module:
    """Make a model in data/model with running statistics other than the initial ones, which finds each class."""
    torch.manual_seed(0)
    model = build_model(arch, encoder, "none", 3).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, 64, 64))
        logits = model.eval()(torch.randn(4, 3, 64, 64))
        last = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)][-1]
        assert last.bias is not None
        last.bias -= logits.mean((0, 2, 3))
    save_checkpoint(Path("data/model"), model, msgspec.structs.replace(INFO, arch=arch, encoder=encoder))
    return load_checkpoint(Path("data/model"))[0]


class Exported(NamedTuple):
    """What `cocoseg export --format onnx` left of a model, and what it said."""

    model: nn.Module
    data: bytes
    said: str
    readme: str


# Fast-SCNN pools to fixed numbers of bins, which ONNX's own pooling does for one size only.
@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("fastscnn", ""), id="fastscnn"),
        pytest.param(("unet", ENCODER), id="unet", marks=pytest.mark.slow),
    ],
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Once for all tests: torch's exporter works out every size in symbols, which takes 10 s a model."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.chdir(tmp_path_factory.mktemp("exported"))
        model = trained(*request.param)
        main(["export", "--format", "onnx", "--out", "out"])
        return Exported(model, Path("out/model.onnx").read_bytes(), said.getvalue(), Path("out/README.md").read_text())


def test_onnx_gives_pytorchs_logits_for_any_batch_and_size(exported: Exported) -> None:
    assert "checked with onnxruntime against PyTorch: logits within " in exported.said
    assert "and all labels equal" in exported.said
    assert exported.readme.startswith("# ")
    assert re.findall("^## .*", exported.readme, re.MULTILINE)[:2] == ["## Use", "## Data"]
    assert exported.readme.count("## Use\n") == 1
    session = onnxruntime.InferenceSession(exported.data)
    for shape in ((1, 3, 64, 64), (5, 3, 33, 90), (2, 3, 160, 71)):
        images = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        (found,) = session.run(["logits"], {"images": images.numpy()})
        with torch.inference_mode():
            expected = exported.model(images).numpy()
        assert found.shape == expected.shape == (shape[0], 3, *shape[2:])
        assert np.abs(found - expected).max() <= 1e-4
        assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.999


def test_the_metadata_of_an_onnx_file_say_what_it_takes_and_what_its_channels_mean(exported: Exported) -> None:
    session = onnxruntime.InferenceSession(exported.data)
    facts = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert facts["classes"] == ["background", "person", "car"]
    assert facts["preprocessing"] == {
        "image_size_px": 32, "resize": "letterbox", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    assert facts["border_rgb"] == [124, 116, 104]
    assert facts["categories"][1] == {"category_id": 3, "name": "car", "class_index": 2}


def photo_and_its_labels(
    model: nn.Module, info: ModelInfo, threshold_logit: float = 0.0, bits: int = 8
) -> NDArray[np.uint8]:
    """Make photo.jpg, which EXIF turns, as a PNG if its `bits` are 16; its labels as `cocoseg predict` finds them."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 6, 3), dtype=np.uint8)
    photo = Image.fromarray(pixels).resize((150, 220), Image.Resampling.BICUBIC)
    if bits == 16:
        photo = Image.fromarray(np.asarray(photo)[:, :, 0].astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save("photo.jpg", format="PNG" if bits == 16 else "JPEG", exif=exif, quality=95)
    image = decode_photo(open_photo(Path("photo.jpg")), upright=info.params.get("exif") != "ignore")
    (found,) = predict_logits(model, info, [(None, image)])
    parts = [original_labels(logits, place, threshold_logit) for logits, place in found.parts]
    return joined_labels(parts, found.place.width)


def typed(code: str) -> NDArray[np.int64]:
    """Return the labels from the Python code in the section "Use" of a README."""
    (code,) = re.findall(r"```python\n(.*?)```", code, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    (labels,) = names["labels"]
    return np.asarray(labels)


@pytest.mark.parametrize(
    ("resize", "exif", "bits"),
    [("squash", "auto", 16), ("letterbox", "auto", 8), ("short_side", "ignore", 8), ("crop", "follow", 8)],
)
def test_what_the_readme_of_an_onnx_file_says_to_type_gives_the_labels_of_predict(
    exported: Exported, resize: ResizeName, exif: str, bits: int
) -> None:
    mean = (0.7, 0.5, 0.3) if resize == "crop" else MEAN  # then 0 is not the color of the border
    preprocessing = Preprocessing(image_size_px=96, resize=resize, mean=mean)
    info = msgspec.structs.replace(INFO, preprocessing=preprocessing, params={"exif": exif})
    expected = photo_and_its_labels(exported.model, info, bits=bits)
    Path("model.onnx").write_bytes(exported.data)
    assert len(np.unique(expected)) > 1
    found = typed(onnx_use(info))
    assert found.shape == expected.shape
    assert (found == expected).mean() > 0.99  # Pillow rounds otherwise than torch


def test_an_onnx_file_of_other_weights_is_refused(exported: Exported) -> None:
    torch.manual_seed(1)
    with pytest.raises(CocosegError, match="the ONNX model differs from PyTorch: logits within .* of labels equal; "):
        agreement(exported.data, build_model("fastscnn", "", "none", 3), INFO)


@pytest.mark.parametrize(("changed", "refused"), [(2e-6, False), (2e-3, True)])
def test_large_logits_may_differ_by_what_float32_rounds_and_no_more(changed: float, refused: bool) -> None:
    model = nn.Conv2d(3, 3, kernel_size=1).eval()
    nn.init.constant_(model.weight, 100.0)
    with torch.no_grad():
        assert model.bias is not None
        model.bias.copy_(torch.tensor([0.0, 50, 100]))  # the same class everywhere
    data = onnx_bytes(model, INFO)
    with torch.no_grad():
        model.weight.mul_(1 + changed)
    if refused:
        with pytest.raises(CocosegError, match="and all labels equal; expected logits within .*; try another version"):
            agreement(data, model, INFO)
        return
    checked = agreement(data, model, INFO)
    assert checked.largest_logit > 300
    assert checked.logit_difference > 1e-4
    assert str(checked).endswith("and all labels equal")


def test_a_model_whose_logits_are_not_finite_is_not_exported(exported: Exported) -> None:
    model = build_model("fastscnn", "", "none", 3)
    for weight in model.parameters():
        weight.data.mul_(1e30)
    with pytest.raises(CocosegError, match="the model's logits are not finite"):
        agreement(exported.data, model, INFO)


@pytest.mark.parametrize("bins", [(1, 1), (2, 3), (6, 6), (9, 40)])
def test_pooling_by_matrices_is_adaptive_pooling(bins: tuple[int, int]) -> None:
    features = torch.randn(2, 4, 9, 17, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(adaptive_mean(features, *bins), F.adaptive_avg_pool2d(features, bins), atol=1e-6)


LOAD = """
import json, sys
import segmentation_models_pytorch as smp, torch
images = torch.load("images.pt")
with torch.inference_mode():
    logits = {arch: smp.from_pretrained(arch).eval()(images) for arch in ("unet", "segformer")}
assert "cocoseg" not in sys.modules
torch.save(logits, "logits.pt")
print(json.load(open("unet/id2label.json")))
"""


@pytest.mark.slow
def test_smp_alone_loads_the_hugging_face_layout_and_gives_the_same_logits() -> None:
    images = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    torch.save(images, "images.pt")
    expected = {}
    for arch in ("unet", "segformer"):
        model = trained(arch, ENCODER)
        main(["export", "--format", "huggingface", "--out", arch])
        with torch.inference_mode():
            expected[arch] = model(images)
    finished = subprocess.run(
        [sys.executable, "-c", LOAD], capture_output=True, text=True, check=False, env={"HF_HUB_OFFLINE": "1"}
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.splitlines()[-1] == "{'0': 'background', '1': 'person', '2': 'car'}"
    found = torch.load("logits.pt")
    for arch, logits in expected.items():
        assert torch.allclose(found[arch], logits, atol=1e-5)  # another number of threads adds in another order
    assert {path.stat().st_mode for path in Path("unet").iterdir()} == {Path("images.pt").stat().st_mode}
    settings = json.loads(Path("unet/preprocessor_config.json").read_text())
    assert settings == {
        "do_resize": True, "size": {"longest_edge": 32}, "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "do_pad": True,
        "size_divisor": 1, "pad_size": {"height": 32, "width": 32}, "pad_rgb": [124, 116, 104],
        "pad_place": "both sides alike",
    }  # fmt: skip
    readme = Path("unet/README.md").read_text()
    assert readme.startswith("---\nlibrary_name: segmentation-models-pytorch\n")
    assert "hf upload USER/NAME" in readme


@pytest.mark.parametrize("resize", ["squash", "short_side", "crop"])
def test_what_the_readme_for_smp_says_to_type_gives_the_labels_of_this_library(
    resize: ResizeName, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained("fpn", ENCODER)
    export(ModelSource("data/model"), "huggingface", Path("out"))
    info = msgspec.structs.replace(INFO, preprocessing=Preprocessing(image_size_px=80, resize=resize))
    monkeypatch.chdir("out")
    expected = photo_and_its_labels(model, info)
    assert stride_of(model) == 32  # which does not divide 80
    assert len(np.unique(expected)) > 1
    found = typed(huggingface_use(info, 32))
    assert found.shape == expected.shape
    assert (found == expected).mean() > 0.99


def test_an_architecture_that_is_not_smps_has_no_hugging_face_layout() -> None:
    trained("fastscnn")
    with pytest.raises(CocosegError, match="arch fastscnn is not one of smp's, .*; use --format onnx"):
        export(ModelSource("data/model"), "huggingface", Path("out"))
    assert not Path("out").exists()


def exported_readme() -> str:
    export(ModelSource("data/model"), "huggingface", Path("out"))
    return Path("out/README.md").read_text()


def test_a_model_that_the_card_beside_it_does_not_describe_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    trained("unet", ENCODER)
    source = ModelSource("data/model")
    _, info = source.load()
    Path("metrics").mkdir()
    for weights, said in (
        (info.weights_sha256, ""),
        ("0" * 64, "data/model: is not the model that metrics/model_card"),
    ):
        Path("metrics/model_card.md").write_text(f"Weights `{weights[:12]}`.\n")
        assert capsys.readouterr().err == ""
        source.load()
        assert capsys.readouterr().err.startswith(said)


def test_the_card_of_these_weights_goes_with_them_and_one_of_others_does_not() -> None:
    trained("unet", ENCODER)
    _, info = load_checkpoint(Path("data/model"))
    assert "Not scored yet: run `dvc repro evaluate`." in exported_readme()
    Path("metrics").mkdir()
    Path("metrics/model_card.md").write_text(f"# Mine\n\nWeights `{info.weights_sha256[:12]}`.\n")
    write_json(
        Path("metrics/timing/train.json"),
        {
            "seconds": 60.2,
            "device": "a GPU",
            "precision": "bf16-mixed",
            "train_images_per_second": 9.5,
            "peak_memory_mb": 3,
        },
    )
    readme = exported_readme()
    assert "# Mine\n" in readme
    assert "Trained in 60 s on a GPU in bf16-mixed, 9.5 images/s, at most 3 MB." in readme
    for broken in ('{"seconds": 3}', "<<<<<<< HEAD", "[]"):
        Path("metrics/timing/train.json").write_text(broken)
        readme = exported_readme()
        assert "# Mine\n" in readme
        assert "Trained in" not in readme
    Path("metrics/model_card.md").write_text("# Mine\n\nWeights `000000000000`.\n")
    assert "# Mine\n" not in exported_readme()


def test_a_line_comes_first_since_the_rest_takes_long_and_without_a_model_the_next_says_which_command_makes_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="cocoseg export: data/model: no model.json; train a model with: dvc repro"):
        main(["export", "--format", "onnx", "--out", "out"])
    assert capsys.readouterr().err == "cocoseg export: writing onnx with PyTorch, which takes seconds to minutes\n"


@pytest.mark.parametrize("threshold", [0.5, 0.375])
def test_an_exported_binary_model_has_the_threshold_of_its_predictions(threshold: float) -> None:
    torch.manual_seed(0)
    preprocessing = Preprocessing(image_size_px=96, resize="squash")
    info = msgspec.structs.replace(
        INFO, task="binary", classes=("background", "foreground"), categories=(), preprocessing=preprocessing
    )
    model = nn.Conv2d(3, 1, kernel_size=3, padding=1).eval()
    data = onnx_bytes(model, info, threshold)
    assert agreement(data, model, info, threshold).equal_pixels >= 0.999
    facts = onnxruntime.InferenceSession(data).get_modelmeta().custom_metadata_map
    assert json.loads(facts["threshold"]) == threshold
    Path("model.onnx").write_bytes(data)
    expected = photo_and_its_labels(model, info, json.loads(facts["threshold_logit"]))
    assert len(np.unique(expected)) > 1
    assert (typed(onnx_use(info, threshold)) == expected).mean() > 0.99
    assert f"# foreground: a probability above {threshold}" in huggingface_use(info, 1, threshold)


LOCK = """schema: '2.0'
stages:
  download:
    cmd: python stages/download.py
    params:
      params.yaml:
        dataset: {dataset}
"""


def front_matter_of(dataset: str, metrics: str, card: str | None = None) -> dict[str, Any]:
    """Return the front matter of the export of a run with this `dvc.lock`, metrics and model card."""
    _, info = load_checkpoint(Path("data/model"))
    Path("metrics").mkdir(exist_ok=True)
    Path("dvc.lock").write_text(LOCK.format(dataset=dataset))
    Path("metrics/evaluate.json").write_text(metrics)
    Path("metrics/model_card.md").write_text(card or f"# Mine\n\nWeights `{info.weights_sha256[:12]}`.\n")
    front: dict[str, Any] = YAML(typ="safe", pure=True).load(exported_readme().split("---\n")[1])
    return front


def test_the_hub_reads_license_dataset_and_scores_from_the_front_matter() -> None:
    trained("unet", ENCODER)
    metrics = '{"images": 209, "split": "test", "miou": 0.7, "mean_dice": 0.8, "pixel_accuracy": null}'
    front = front_matter_of("coco2017-val", metrics)
    assert front["datasets"] == ["coco"]
    assert (front["license"], front["license_name"]) == ("other", "coco-terms-of-use")
    (model,) = front["model-index"]
    assert model["name"] == f"unet-{ENCODER}"
    (result,) = model["results"]
    assert result["dataset"] == {"name": "coco2017-val, 209 images", "type": "coco", "split": "test"}
    assert [(one["type"], one["value"]) for one in result["metrics"]] == [("mean_iou", 0.7), ("dice", 0.8)]
    assert ModelCard.load("out/README.md").data.eval_results is not None
    row = ClassPixels(file_name="a.jpg", class_index=0, class_name="background", target=9, prediction=9, hit=9)
    write_table(Path("data/evaluation/per_image.csv"), [row], ClassPixels)
    with pytest.raises(CocosegError, match=r"^metrics/evaluate\.json: miou is 0\.7, but .+ gives 1\.0; run dvc repro"):
        front_matter_of("coco2017-val", metrics)


def test_the_front_matter_claims_no_scores_of_other_weights_and_no_license_that_is_not_known() -> None:
    trained("unet", ENCODER)
    metrics = '{"images": 209, "split": "test", "miou": 0.7}'
    assert "model-index" not in front_matter_of("sample", metrics, "# Mine\n\nWeights `000000000000`.\n")
    for broken in ("<<<<<<< HEAD", '{"miou": 0.7}'):
        assert "model-index" not in front_matter_of("sample", broken)
    assert front_matter_of("custom", metrics)["license"] == "unknown"
    assert front_matter_of("sample", metrics)["license"] == "unknown"  # what it was pretrained on is not recorded
    drawn = msgspec.structs.replace(INFO, params={"pretrained": "none"})
    assert "\nlicense: mit\n" in front_matter(drawn, LOCK.format(dataset="sample").encode(), None)
    of_nvidia = msgspec.structs.replace(drawn, encoder="mit_b0")
    for dataset in ("sample", "coco2017-val"):
        assert "\nlicense: unknown\n" in front_matter(of_nvidia, LOCK.format(dataset=dataset).encode(), None)
    first = InitialWeights(sha256="0", tensors=1, pretrained="none")
    started = msgspec.structs.replace(drawn, initial=first)
    assert "\nlicense: unknown\n" in front_matter(started, LOCK.format(dataset="sample").encode(), None)
    Path("dvc.lock").unlink()
    assert "datasets:" not in exported_readme()
