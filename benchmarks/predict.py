"""Time `cocoseg predict`: `uv run benchmarks/predict.py`; `--help` lists the sizes.

Uses a folder of generated JPEGs of 640×480 pixels, and an untrained model, which is as fast as a trained one.

- ours, from files to masks, overlays and results; the bare forward pass of the model on batches that are ready on the
  device; and the forward pass with labels at the original size
- ONNX in onnxruntime and PyTorch on the CPU, on one image and on a batch
"""

import argparse
import contextlib
import io
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
from cocoseg.commands.export.onnx import onnx_bytes
from cocoseg.commands.predict.photos import decode_photo, open_photo
from cocoseg.commands.predict.predict import predict
from cocoseg.evaluate.prediction import BATCH_SIZE
from cocoseg.evaluate.restore import original_labels
from cocoseg.model.architectures import build_model
from cocoseg.model.preprocessing import Placement, Preprocessing, normalized, placed_image, placement
from cocoseg.model.weights import ModelInfo, TrainingData

CLASSES = ("background", "person", "bicycle", "car", "motorcycle", "airplane")


def seconds(task: Callable[[], object]) -> float:
    """Return the seconds of one run."""
    started = time.perf_counter()
    task()
    return time.perf_counter() - started


def draw_photos(folder: Path, count: int) -> list[Path]:
    """Write JPEGs of the size of COCO's photographs: blurred colors and noise."""
    chance = np.random.default_rng(0)
    paths = []
    for number in range(count):
        blobs = cv2.resize(
            chance.integers(0, 256, (6, 8, 3), dtype=np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC
        )
        noise = chance.integers(0, 24, blobs.shape, dtype=np.uint8)
        paths.append(folder / f"{number:012}.jpg")
        cv2.imwrite(str(paths[-1]), np.maximum(blobs, noise))
    return paths


def untrained(
    arch: str, encoder: str, preprocessing: Preprocessing, classes: tuple[str, ...] = CLASSES
) -> tuple[nn.Module, ModelInfo]:
    """Return a model and the content of its `model.json`."""
    torch.manual_seed(0)
    model = build_model(arch, encoder, "none", len(classes)).eval()
    data = TrainingData(train_images=0, val_images=0, fingerprint="")
    info = ModelInfo(
        arch=arch, encoder=encoder, task="multiclass", classes=classes, preprocessing=preprocessing, epoch=0,
        val_miou=0, params={}, data=data, versions={},
    )  # fmt: skip
    return model, info


def passes(model: nn.Module, info: ModelInfo, count: int, repeats: int) -> list[float]:
    """Return the seconds of the bare forward passes, of those with labels, and of `cocoseg predict`, in turns."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    preprocessing = info.preprocessing
    with tempfile.TemporaryDirectory() as name:
        paths = draw_photos(Path(name), count)
        batches: list[tuple[Tensor, list[Placement]]] = []
        for start in range(0, count, BATCH_SIZE):
            images = [decode_photo(open_photo(path), upright=True) for path in paths[start : start + BATCH_SIZE]]
            places = [placement(480, 640, preprocessing.image_size_px, preprocessing.resize) for _ in images]
            inputs = [
                placed_image(torch.from_numpy(image).permute(2, 0, 1), place)
                for image, place in zip(images, places, strict=True)
            ]
            batches.append((normalized(torch.stack(inputs).to(device), preprocessing), places))
        bare_model = model.to(device).to(memory_format=torch.channels_last)

        def forward(labels: bool) -> None:
            with torch.inference_mode():
                for images, places in batches:
                    logits = bare_model(images)
                    for own, place in zip(logits, places, strict=True):
                        if labels:
                            original_labels(own, place)
            if device.type != "cpu":
                torch.accelerator.synchronize()

        def ours() -> None:
            with contextlib.redirect_stderr(io.StringIO()):
                predict(lambda: (model, info), [name], Path(name) / "out", None, flips=False)

        forward(labels=True)  # warm up
        taken = [[seconds(lambda: forward(labels=False)), seconds(lambda: forward(labels=True)), seconds(ours)]
                 for _ in range(repeats)]  # fmt: skip
    return [float(one) for one in np.median(taken, axis=0)]


def folder_of_photos(model: nn.Module, info: ModelInfo, count: int, repeats: int) -> None:
    """Print the times of `cocoseg predict` and of its forward passes."""
    preprocessing = info.preprocessing
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    bare, labelled, whole = passes(model, info, count, repeats)
    print(f"{count} photos of 640×480, {info.arch} at {preprocessing.image_size_px} px, {device}:")
    print(f"  ours {whole:.1f} s, {count / whole:.1f} images/s,")
    print(f"  {bare / whole:.2f} of the speed of the bare forward pass ({bare:.1f} s),")
    print(f"  {labelled / whole:.2f} of that of the forward pass and labels at the images' own size ({labelled:.1f} s)")


def onnx(model: nn.Module, info: ModelInfo, repeats: int) -> None:
    """Print the time of a forward pass in onnxruntime and in PyTorch, on the CPU."""
    import onnxruntime

    model = model.cpu().eval()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(onnx_bytes(model, info), options, providers=["CPUExecutionProvider"])
    size = info.preprocessing.image_size_px
    channels_last = model.to(memory_format=torch.channels_last)
    for batch in (1, 8):
        images = torch.randn(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
        array = images.contiguous().numpy()

        def in_torch(images: Tensor = images) -> None:
            with torch.inference_mode():
                channels_last(images)

        def in_onnx(array: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]" = array) -> None:
            session.run(None, {"images": array})

        in_torch()
        in_onnx()
        torch_s, onnx_s = np.median([[seconds(in_torch), seconds(in_onnx)] for _ in range(3 * repeats)], axis=0)
        print(f"batch of {batch}, {torch.get_num_threads()} threads: PyTorch {1000 * torch_s:.0f} ms, onnxruntime "
              f"{1000 * onnx_s:.0f} ms, {torch_s / onnx_s:.2f}×")  # fmt: skip


def main() -> None:
    """Run both measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500, help="photos in the folder; default: 500")
    parser.add_argument("--arch", default="deeplabv3_mobilenet", help="default: deeplabv3_mobilenet")
    parser.add_argument("--encoder", default="tu-mobilenetv3_small_050", help="of smp's architectures")
    parser.add_argument("--size", type=int, default=320, help="network input in pixels; default: 320")
    parser.add_argument("--repeats", type=int, default=3, help="default: 3")
    options = parser.parse_args()
    preprocessing = Preprocessing(image_size_px=options.size, resize="squash")
    model, info = untrained(options.arch, options.encoder, preprocessing)
    folder_of_photos(model, info, options.images, options.repeats)
    onnx(model, info, options.repeats)


if __name__ == "__main__":
    main()
