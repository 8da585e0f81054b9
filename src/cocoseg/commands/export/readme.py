"""The code in the README of an exported model: from a photograph to its labels, without this library."""

from cocoseg.model.preprocessing import BORDER_RGB, Preprocessing
from cocoseg.model.weights import ModelInfo

_RESIZED = {
    "squash": "photo = photo.resize(({size}, {size}), Image.Resampling.BILINEAR)",
    "letterbox": """sides = [max(1, round(side * {size} / max(photo.size))) for side in photo.size]
photo, content = Image.new("RGB", ({size}, {size}), {border}), photo.resize(sides, Image.Resampling.BILINEAR)
photo.paste(content, [({size} - side) // 2 for side in sides])""",
    "short_side": """sides = [max(1, round(side * {size} / min(photo.size))) for side in photo.size]
photo = photo.resize(sides, Image.Resampling.BILINEAR)""",
}

_PREPARED = """import numpy as np
from PIL import Image, ImageOps

photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
{resized}
pixels = (np.asarray(photo) / 255 - {mean}) / {std}
images = pixels.transpose(2, 0, 1)[None].astype(np.float32)  # (N, 3, H, W)"""


def onnx_use(info: ModelInfo) -> str:
    """Return the section on using `model.onnx` with onnxruntime."""
    return f"""## Use

```python
import onnxruntime
{_prepared(info.preprocessing)}

session = onnxruntime.InferenceSession("model.onnx")
(logits,) = session.run(["logits"], {{"images": images}})  # (N, C, H, W)
labels = {_labels(info)}
```

`model.onnx` takes any batch and size. Its metadata (`session.get_modelmeta().custom_metadata_map`, JSON by key) hold
these settings and the classes with their COCO categories.
{_SIZE}"""


def huggingface_use(info: ModelInfo, stride: int) -> str:
    """Return the section on using the folder with smp, whose network takes sides that `stride` divides."""
    padded = (
        f"sides = images.shape[2:]\n"
        f"images = np.pad(images, ((0, 0), (0, 0), *((0, -side % {stride}) for side in sides)))\n"
        if stride > 1
        else ""
    )
    cropped = "[:, :, : sides[0], : sides[1]]" if stride > 1 else ""
    return f"""## Use

```python
import segmentation_models_pytorch as smp
import torch
{_prepared(info.preprocessing)}
{padded}
model = smp.from_pretrained(".").eval()  # this folder, or USER/NAME on the Hub
with torch.inference_mode():
    logits = model(torch.from_numpy(images)).numpy(){cropped}  # (N, C, H, W)
labels = {_labels(info)}
```

`preprocessor_config.json` and `id2label.json` hold these settings and the classes for programs. `hf upload USER/NAME .`
uploads this folder.
{_SIZE}"""


_SIZE = """Labels have the network's input size. For labels of the photograph's size, resize the logits first.
"""


def _prepared(preprocessing: Preprocessing) -> str:
    size = preprocessing.image_size_px
    resized = _RESIZED[preprocessing.resize].format(size=size, border=BORDER_RGB)
    return _PREPARED.format(resized=resized, mean=preprocessing.mean, std=preprocessing.std)


def _labels(info: ModelInfo) -> str:
    return "logits[:, 0] > 0  # foreground" if info.task == "binary" else "logits.argmax(1)  # class by class index"
