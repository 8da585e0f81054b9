"""The code in the README of an exported model: from a photograph to its labels, without this library."""

from cocoseg.model.preprocessing import BORDER_RGB, Preprocessing
from cocoseg.model.threshold import EVEN, threshold_logit
from cocoseg.model.weights import ModelInfo
from cocoseg.model.windows import window_step

_RESIZED = {
    "squash": "own_size, photo = photo.size, photo.resize(({size}, {size}), Image.Resampling.BILINEAR)",
    "letterbox": """sides = [max(1, round(side * {size} / max(photo.size))) for side in photo.size]
left, top = [({size} - side) // 2 for side in sides]
own_size = photo.size
photo, content = Image.new("RGB", ({size}, {size}), {border}), photo.resize(sides, Image.Resampling.BILINEAR)
photo.paste(content, (left, top))""",
    "short_side": """sides = [max(1, round(side * {size} / min(photo.size))) for side in photo.size]
own_size, photo = photo.size, photo.resize(sides, Image.Resampling.BILINEAR)""",
    "crop": "size, step = {size}, {step}  # of windows, in pixels: the photograph keeps its size",
}

# As in cocoseg.model.windows.
_WINDOWED = """
spans = [-(-max(0, side - size) // 32) for side in images.shape[2:]]
gaps = [-(-span * 32 // step) for span in spans]
starts = [[span * i // max(1, n) * 32 for i in range(n + 1)] for span, n in zip(spans, gaps)]
sides = [own[-1] + size for own in starts]
border = (np.array({border}) / 255 - {mean}) / {std}
padded = np.broadcast_to(border[:, None, None], (1, 3, *sides)).astype(np.float32)
padded[:, :, : images.shape[2], : images.shape[3]] = images
rising = np.clip(((np.arange(size) + 0.5) / (size - step) - 0.25) * 2, 0, 1)

def along(start, own):  # a window's weight along one side: 0 near its ends, but not at the photograph's border
    return (1 if start == own[0] else rising) * (1 if start == own[-1] else rising[::-1]) * np.ones(size)

logits, weights = 0.0, np.zeros(sides)
for top in starts[0]:
    for left in starts[1]:
        weight = along(top, starts[0])[:, None] * along(left, starts[1])
        place = (slice(top, top + size), slice(left, left + size))
        found = network(padded[:, :, *place])
        if not weights.any():
            logits = np.zeros((1, found.shape[1], *sides))
        logits[:, :, *place] += found * weight
        weights[place] += weight
logits = (logits / weights)[:, :, : images.shape[2], : images.shape[3]]  # (N, C, H, W)"""

_AT_ITS_SIZE = """logits = network(images){cut}  # (N, C, H, W)
planes = [Image.fromarray(plane).resize(own_size, Image.Resampling.BILINEAR) for plane in logits[0]]
logits = np.stack([np.asarray(plane) for plane in planes])[None]  # at the photograph's size"""

_PREPARED = """import numpy as np
from PIL import Image, ImageOps

photo = {opened}
if photo.mode.startswith("I"):  # 16 bits, of which Pillow would make white all above 255
    photo = Image.fromarray((np.asarray(photo) >> 8).astype(np.uint8))
photo = photo.convert("RGB")
{resized}
pixels = (np.asarray(photo) / 255 - {mean}) / {std}
images = pixels.transpose(2, 0, 1)[None].astype(np.float32)  # (N, 3, H, W)"""


def onnx_use(info: ModelInfo, threshold: float = EVEN) -> str:
    """Return the section on using `model.onnx` with onnxruntime; the foreground lies above the `threshold`."""
    return f"""## Use

```python
import onnxruntime
{_prepared(info)}

session = onnxruntime.InferenceSession("model.onnx")

def network(images):
    return session.run(["logits"], {{"images": images}})[0]

{_applied(info.preprocessing)}
labels = {_labels(info, threshold)}
```

`model.onnx` takes any batch and size. Its metadata (`session.get_modelmeta().custom_metadata_map`, JSON by key) hold
these settings and the classes with their COCO categories. Labels have the photograph's size.
"""


def huggingface_use(info: ModelInfo, stride: int, threshold: float = EVEN) -> str:
    """Return the section on using the folder with smp, whose network takes sides that `stride` divides."""
    padded = (
        f"    height, width = images.shape[2:]\n"
        f"    images = np.pad(images, ((0, 0), (0, 0), (0, -height % {stride}), (0, -width % {stride})))\n"
        if stride > 1
        else ""
    )
    cropped = "[:, :, :height, :width]" if stride > 1 else ""
    return f"""## Use

```python
import segmentation_models_pytorch as smp
import torch
{_prepared(info)}

model = smp.from_pretrained(".").eval()  # this folder, or USER/NAME on the Hub

def network(images):
{padded}    with torch.inference_mode():
        return model(torch.from_numpy(images)).numpy(){cropped}

{_applied(info.preprocessing)}
labels = {_labels(info, threshold)}
```

`preprocessor_config.json` and `id2label.json` hold these settings and the classes for programs. `hf upload USER/NAME .`
uploads this folder. Labels have the photograph's size.
"""


def _prepared(info: ModelInfo) -> str:
    preprocessing, size = info.preprocessing, info.preprocessing.image_size_px
    resized = _RESIZED[preprocessing.resize].format(size=size, border=BORDER_RGB, step=window_step(size))
    opened = 'Image.open("photo.jpg")'
    if info.params.get("exif") != "ignore":  # as `cocoseg predict` does
        opened = f"ImageOps.exif_transpose({opened})"
    return _PREPARED.format(opened=opened, resized=resized, mean=preprocessing.mean, std=preprocessing.std)


def _applied(preprocessing: Preprocessing) -> str:
    if preprocessing.resize != "crop":
        letterbox = preprocessing.resize == "letterbox"
        return _AT_ITS_SIZE.format(cut="[:, :, top : top + sides[1], left : left + sides[0]]" if letterbox else "")
    return _WINDOWED.strip().format(border=BORDER_RGB, mean=preprocessing.mean, std=preprocessing.std)


def _labels(info: ModelInfo, threshold: float) -> str:
    if info.task != "binary":
        return "logits.argmax(1)  # class by class index"
    # In full: a pixel on the edge would else be another than in predict.
    return f"logits[:, 0] > {threshold_logit(threshold):.9g}  # foreground: a probability above {threshold:g}"
