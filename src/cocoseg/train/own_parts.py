"""The user's own network, loss and augmentation, tried once before training."""

import copy
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from tqdm import tqdm

from cocoseg.coco.categories import IGNORE
from cocoseg.core.errors import CocosegError, first_line
from cocoseg.core.work_tree import is_first_process
from cocoseg.model.own_code import own_errors_explained, own_function, own_place
from cocoseg.train.losses import OwnLoss

TRIED_SAMPLES = 4
"""Training samples that an augmentation is tried on."""


def check_own_model(
    model: nn.Module,
    name: str,
    channels: int,
    image_size_px: int,
    smallest_batch: int,
    device: torch.device,
    *,
    shared: bool = False,
    any_size: bool = False,
) -> None:
    """Try a training step and a prediction with a copy of the network `name` on `device`.

    `any_size`: a prediction of images that are no squares, too. `shared`: several processes would wait forever for the
    gradients of parameters that get none, so these are frozen; one process trains them in the steps that use them.
    Warns of these, and of logits that look like probabilities. Raises `CocosegError` for a network that cannot be
    saved, whose logits have another shape, or that has nothing to learn.
    """
    place = own_place(name)
    for key, value in model.state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor) or is_lazy(value):
            raise CocosegError(f"{place}: its state has {key}, which is no tensor yet; expected layers of fixed sizes")
    try:
        trial = copy.deepcopy(model)
    except (RuntimeError, TypeError) as error:  # of an attribute that is computed from parameters, or holds a file
        raise CocosegError(f"{place}: the network cannot be copied: {first_line(error)}") from None
    with own_errors_explained(), _own_random_state(device):
        trial = trial.to(device)
        images = torch.randn(min(smallest_batch, 2), 3, image_size_px, image_size_px, device=device)
        output = trial.train()(images)
        heads = output if isinstance(output, tuple) and len(output) == 2 else (output,)
        with torch.no_grad():
            predicted = trial.eval()(images)
    for logits in (*heads, predicted):
        _check_logits(logits, place, (len(images), channels, image_size_px, image_size_px))
    if any_size:
        wide = F.pad(images, (0, image_size_px // 3 + 1))
        with own_errors_explained(), _own_random_state(device), torch.no_grad():
            _check_logits(trial(wide), place, (len(images), channels, *wide.shape[2:]))
    if not all(logits.requires_grad for logits in heads):
        raise CocosegError(f"{place}: its logits depend on no parameter, so it has nothing to learn")
    with own_errors_explained():
        sum(logits.sum() for logits in heads).backward()
    if predicted.amin() >= 0 and predicted.amax() <= 1 and predicted.amin() < predicted.amax():
        _warn(
            f"{place}: its logits lie between 0 and 1, as probabilities do, which the losses and labels here do not "
            "expect; leave out the last sigmoid or softmax"
        )
    tried = zip(model.named_parameters(), trial.parameters(), strict=True)
    unreached = [own for own, copied in tried if shared and copied.requires_grad and copied.grad is None]
    for _, parameter in unreached:
        parameter.requires_grad_(False)
    if unreached:
        _warn(
            f"{place}: {len(unreached)} of its parameters get no gradient, such as {unreached[0][0]}, and several "
            "processes leave them as they are; use each in every step, if only times 0"
        )


def _check_logits(logits: Any, place: str, expected: tuple[int, int, int, int]) -> None:
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else f"of type {type(logits).__name__}"
    if shape != expected or not logits.is_floating_point():
        found = f"{shape}, {logits.dtype}" if isinstance(logits, Tensor) else shape
        raise CocosegError(
            f"{place}: its logits are {found}; expected {expected}, floating point: `classes` channels at the size of "
            "the images"
        )


def own_loss(name: str, channels: int, image_size_px: int, device: torch.device) -> OwnLoss:
    """Return the loss `name`, tried on random logits. Warns if it learns from pixels that are ignored.

    Raises `CocosegError` if its result is not a finite scalar with a gradient.
    """
    loss: OwnLoss = own_function("loss", name, ("logits", "target"))
    place = own_place(name)
    random = torch.Generator().manual_seed(0)
    shape = (2, image_size_px, image_size_px)
    target = torch.randint(0, max(2, channels), shape, generator=random)
    target[:, ::4] = IGNORE
    logits = torch.randn(2, channels, *shape[1:], generator=random).to(device).requires_grad_()
    with own_errors_explained(), _own_random_state(device):
        value: Any = loss(logits, target.to(device))
    if not isinstance(value, Tensor) or value.shape != ():
        found = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise CocosegError(f"{place} returns {found}; expected a scalar tensor, such as the mean over pixels")
    if not torch.isfinite(value):
        raise CocosegError(f"{place} is {value:g} for random logits; leave out pixels whose target is {IGNORE}")
    if not value.requires_grad:
        raise CocosegError(f"{place} returns a tensor without a gradient; expected one computed from logits by PyTorch")
    with own_errors_explained():
        (gradient,) = torch.autograd.grad(value, logits, allow_unused=True)
    if gradient is None or not torch.isfinite(gradient).all():
        raise CocosegError(f"{place}: its gradient by the logits is {'missing' if gradient is None else 'not finite'}")
    if gradient[:, :, ::4].any():
        _warn(f"{place} learns from pixels whose target is {IGNORE}; leave them out, as ignore_index={IGNORE} does")
    return partial(_counted_loss, loss)


def _counted_loss(loss: OwnLoss, logits: Tensor, target: Tensor) -> Tensor:
    if (target == IGNORE).all():  # where a mean of nothing would be NaN
        return logits.sum() * 0
    return loss(logits, target.long())


class OwnAugmentation:
    """The augmentation `name`. Worker processes get its name and import it again, so it need not be picklable."""

    def __init__(self, name: str, classes: int) -> None:
        self.name = name
        self.classes = classes

    def __reduce__(self) -> tuple[Any, ...]:
        return OwnAugmentation, (self.name, self.classes)

    @cached_property
    def _function(self) -> Callable[..., Any]:
        return own_function("augment", self.name, ("image", "mask", "rng"))

    def __call__(self, image: Tensor, mask: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return an augmented image (3, H, W) and its mask (H, W), of the same sizes, uint8.

        The function gets copies, and what it returns is copied, so it may change or keep arrays.
        """
        pixels, labels = image.permute(1, 2, 0).numpy().copy(), mask.numpy().copy()
        with own_errors_explained():
            result = self._function(pixels, labels, np.random.default_rng(seed))
        if not isinstance(result, tuple | list) or len(result) != 2:
            raise CocosegError(f"{own_place(self.name)} returns {type(result).__name__}; expected (image, mask)")
        pixels = self._checked(result[0], "image", (*mask.shape, 3))
        labels = self._checked(result[1], "mask", tuple(mask.shape))
        if (wrong := labels[(labels >= self.classes) & (labels != IGNORE)]).size:
            raise CocosegError(
                f"{own_place(self.name)}: its mask has the value {wrong[0]}; expected 0 to {self.classes - 1}, or "
                f"{IGNORE}; resize a mask by nearest"
            )
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()), torch.from_numpy(labels.copy())

    def check(self, samples: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Try images and masks twice each. Warns of a class that a mask did not have.

        Raises `CocosegError` if the two differ: a run could not be repeated.
        """
        for seed, (image, before) in enumerate(samples):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)  # as for each sample of a run
                first, mask = self(image, before, seed)
                torch.manual_seed(seed)
                second, mask_again = self(image, before, seed)
            if not torch.equal(first, second) or not torch.equal(mask, mask_again):
                raise CocosegError(
                    f"{own_place(self.name)} differs when called again with the same rng; draw all that is random from "
                    "rng, and seed from it what draws by itself: int(rng.integers(2**32))"
                )
            if new := set(mask.flatten().tolist()) - set(before.flatten().tolist()) - {0, IGNORE}:
                _warn(f"{own_place(self.name)}: a mask gets class {min(new)}, which it had not; resize it by nearest")
                return

    def _checked(self, found: Any, what: str, shape: Sequence[int]) -> NDArray[np.uint8]:
        if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.shape != tuple(shape):
            words = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
            raise CocosegError(
                f"{own_place(self.name)}: its {what} is {words}; expected a NumPy array, uint8 {tuple(shape)}"
            )
        return found


def _own_random_state(device: torch.device) -> AbstractContextManager[None]:
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def _warn(line: str) -> None:
    if is_first_process():
        tqdm.write(f"train: {line}", file=sys.stderr)
