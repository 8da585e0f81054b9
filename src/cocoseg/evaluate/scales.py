"""Average the logits of one image at several scales."""

from collections.abc import Callable, Iterator, Sequence

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor

from cocoseg.evaluate.restore import original_logits
from cocoseg.model.preprocessing import Placement

ONE_SCALE = (1.0,)


def scaled_px(pixels: int, scale: float) -> int:
    """Return the length of a side at a scale: at least one pixel."""
    return max(1, round(pixels * scale))


def averaged_logits(logits: Sequence[Tensor], places: Sequence[Placement]) -> tuple[Tensor, Placement]:
    """Return the mean logits of an image that lies in the network's input at several places, and where it lies in them.

    All are enlarged to the largest, without its border. Logits are averaged, not probabilities, as for mirror images: a
    threshold and a class's probability are then those of one set of logits.
    """
    if len(places) == 1:
        return logits[0], places[0]
    largest = max(places, key=lambda place: place.content_height * place.content_width)
    height, width = largest.content_height, largest.content_width
    enlarged = [
        original_logits(own, msgspec.structs.replace(place, height=height, width=width))
        for own, place in zip(logits, places, strict=True)
    ]
    return torch.stack(enlarged).mean(dim=0), msgspec.structs.replace(
        largest, input_height=height, input_width=width, top=0, left=0
    )


def averaged_strips(
    strips_of: Callable[[Tensor], Iterator[Tensor]], image: Tensor, scales: Sequence[float]
) -> Iterator[Tensor]:
    """Yield the mean logits of an image (3, H, W) over scales, from top to bottom, in strips (C, rows, W).

    `strips_of` yields such strips of the image that it gets. No more than a strip of each scale is held.
    """
    streams = [_rows_at(strips_of(_resized(image, scale)), image, scale) for scale in scales]
    held = [next(stream) for stream in streams]
    while held[0].shape[1]:  # all end with the last row of the image
        done = min(own.shape[1] for own in held)
        yield torch.stack([own[:, :done] for own in held]).mean(dim=0)
        held = [
            own[:, done:] if own.shape[1] > done else next(stream, own[:, done:])
            for own, stream in zip(held, streams, strict=True)
        ]


def _resized(image: Tensor, scale: float) -> Tensor:
    size = scaled_px(image.shape[1], scale), scaled_px(image.shape[2], scale)
    return image if size == image.shape[1:] else F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


def _rows_at(strips: Iterator[Tensor], image: Tensor, scale: float) -> Iterator[Tensor]:
    """Yield the rows of strips of a scaled image at the image's own size, as `F.interpolate` would give all at once."""
    height, width = image.shape[1:]
    there = scaled_px(height, scale)
    # Where the centers of the rows lie there, and the rows above and below them.
    at = ((torch.arange(height) + 0.5) * (there / height) - 0.5).clamp(0, there - 1)
    above = at.long()
    below = (above + 1).clamp(max=there - 1)
    done = start = 0
    held: Tensor | None = None
    for strip in strips:
        wide = F.interpolate(strip[None], (strip.shape[1], width), mode="bilinear", align_corners=False)[0]
        held = wide if held is None else torch.cat([held, wide], dim=1)
        ready = int(torch.searchsorted(below, start + held.shape[1]))
        own = slice(done, ready)
        share = (at - above)[own, None].to(held.device)
        if ready > done:
            yield torch.lerp(held[:, above[own] - start], held[:, below[own] - start], share)
        done = ready
        if done < height:
            # At scales above 2 the next row may lie in a strip that is still to come.
            passed = min(int(above[done]) - start, held.shape[1])
            held, start = held[:, passed:], start + passed
