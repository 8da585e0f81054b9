"""A model as ONNX, for any batch and size, compared with PyTorch through onnxruntime. https://onnx.ai

It takes normalized images (N, 3, H, W) float32 and returns logits (N, C, H, W). Its metadata say how to prepare images
and what the channels mean.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cocoseg.core.errors import CocosegError, first_line
from cocoseg.evaluate.prediction import finite
from cocoseg.model.own_code import own_errors_explained
from cocoseg.model.preprocessing import BORDER_RGB, predicted_labels
from cocoseg.model.threshold import EVEN, threshold_logit
from cocoseg.model.weights import ModelInfo

# Of the largest logit, or of 1 if that is smaller. float32 holds 24 bits, 6e-8, and the sums of a network lose some of
# them: of models that were trained for one epoch, PyTorch's own logits are up to 1e-6 from those in float64, and ONNX's
# up to 1.5e-6 from PyTorch's, which is 6e-4 where a logit is 411. A wrong layer changes the first or second digit.
MOST_LOGIT_DIFFERENCE = 1e-4
LEAST_EQUAL_PIXELS = 0.999

_INPUT, _OUTPUT = "images", "logits"


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """How closely onnxruntime matches PyTorch, over all inputs that were tried."""

    logit_difference: float
    """The largest."""
    largest_logit: float
    """Of PyTorch's, without its sign."""
    equal_pixels: float
    """The share of pixels with the same label."""

    def __str__(self) -> str:
        labels = "all labels equal" if self.equal_pixels == 1 else f"{self.equal_pixels:.3%} of labels equal"
        return f"logits within {self.logit_difference:.1e}, the largest being {self.largest_logit:.3g}, and {labels}"


def onnx_bytes(model: nn.Module, info: ModelInfo, threshold: float = EVEN) -> bytes:
    """Return the ONNX file of a model on the CPU; raise `CocosegError` if ONNX cannot express the model.

    The metadata name the `threshold`. The graph does not apply it, so that its logits stay the model's own.
    """
    from onnx.helper import set_model_props

    size = max(64, -(-info.preprocessing.image_size_px // 32) * 32)
    example = torch.zeros(2, 3, size, size + 32)
    any_size = torch.export.Dim.DYNAMIC
    try:
        with torch.no_grad(), _DynamicPooling():
            program = torch.onnx.export(
                model.eval(),
                (example,),
                dynamo=True,
                dynamic_shapes=({0: any_size, 2: any_size, 3: any_size},),
                input_names=[_INPUT],
                output_names=[_OUTPUT],
                verbose=False,
            )
    except Exception as error:  # the exporter, the tracer and the optimizer have errors of their own
        raise CocosegError(f"arch {info.arch} cannot be exported to ONNX: {first_line(error)}") from None
    assert program is not None
    proto = program.model_proto
    set_model_props(proto, metadata(info, threshold))
    data: bytes = proto.SerializeToString()
    return data


def metadata(info: ModelInfo, threshold: float) -> dict[str, str]:
    """Return what a user of the model needs to know, as JSON by key."""
    facts: Mapping[str, Any] = {
        "arch": info.arch,
        "encoder": info.encoder,
        "task": info.task,
        "classes": info.classes,
        "categories": info.categories,
        "preprocessing": info.preprocessing,
        "border_rgb": BORDER_RGB,
        "weights_sha256": info.weights_sha256,
    }
    if info.task == "binary":
        facts = {**facts, "threshold": threshold, "threshold_logit": threshold_logit(threshold)}
    return {key: msgspec.json.encode(value).decode() for key, value in facts.items()}


def agreement(data: bytes, model: nn.Module, info: ModelInfo, threshold: float = EVEN) -> Agreement:
    """Compare an ONNX file with the model that it was made from, at two batches and sizes.

    Raises `CocosegError` if it differs by more than `MOST_LOGIT_DIFFERENCE` allows or has fewer equal pixels than
    `LEAST_EQUAL_PIXELS`.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    size = info.preprocessing.image_size_px
    difference, largest, equal, pixels = 0.0, 0.0, 0, 0
    for shape in ((1, 3, size, size), (3, 3, size + 33, size * 3 // 2 + 1)):
        images = _pictures(shape)
        with torch.inference_mode(), own_errors_explained():
            expected = finite(model.eval()(images), "a picture of noise")
        found = torch.from_numpy(session.run([_OUTPUT], {_INPUT: images.numpy()})[0])
        difference = max(float((found - expected).abs().max()), difference)  # in this order, NaN stays NaN
        largest = max(float(expected.abs().max()), largest)
        own, fresh = (predicted_labels(logits, threshold_logit(threshold)) for logits in (expected, found))
        same = own == fresh
        equal, pixels = equal + int(same.sum()), pixels + same.numel()
    result = Agreement(logit_difference=difference, largest_logit=largest, equal_pixels=equal / pixels)
    most = MOST_LOGIT_DIFFERENCE * max(1, largest)
    if not (difference <= most and result.equal_pixels >= LEAST_EQUAL_PIXELS):
        raise CocosegError(
            f"the ONNX model differs from PyTorch: {result}; expected logits within {most:.1e} and at least "
            f"{LEAST_EQUAL_PIXELS:.1%} of labels equal; try another version of torch (here {torch.__version__}) or "
            f"onnxruntime (here {onnxruntime.__version__})"
        )
    return result


class _DynamicPooling(TorchFunctionMode):
    """Adaptive pooling as two matrix products, which ONNX has for any size. ONNX's own pooling needs a fixed size."""

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Replace adaptive pooling; torch calls this in place of each of its functions."""
        kwargs = kwargs or {}
        if func is F.adaptive_avg_pool2d:
            return adaptive_mean(args[0], *_pair(args[1]))
        if func is F.interpolate and kwargs.get("mode") == "area":  # smp's PSPNet, while it is exported
            return adaptive_mean(args[0], *_pair(kwargs["size"]))
        return func(*args, **kwargs)


def adaptive_mean(features: Tensor, height: int, width: int) -> Tensor:
    """Return what `F.adaptive_avg_pool2d` returns: (N, C, H, W) -> (N, C, height, width)."""
    rows, columns = _bins(features.shape[-2], height, features), _bins(features.shape[-1], width, features)
    return rows @ features @ columns.T


def _bins(size: int, count: int, like: Tensor) -> Tensor:
    """Return the weight of each position in each mean, (count, size)."""
    number = torch.arange(count, device=like.device)[:, None]
    place = torch.arange(size, device=like.device)
    first, end = number * size // count, -(-(number + 1) * size // count)
    return ((place >= first) & (place < end)).to(like.dtype) / (end - first)


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _pictures(shape: tuple[int, int, int, int]) -> Tensor:
    """Return blurred colors with a little noise, in the range of normalized images; the same on each call."""
    chance = torch.Generator().manual_seed(0)
    blobs = F.interpolate(torch.randn(*shape[:2], 5, 7, generator=chance), shape[2:], mode="bilinear")
    return blobs + 0.1 * torch.randn(shape, generator=chance)
