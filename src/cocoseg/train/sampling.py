"""How often the images of the training side are drawn, from how rare the classes are that they show."""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import sqrt

import torch
from torch import Tensor

from cocoseg.coco.categories import IGNORE
from cocoseg.tables import MaskRow


def repeat_factors(rows: Iterable[MaskRow], images: Sequence[str]) -> list[float]:
    """Return for each of `images` how often it is drawn, as a multiple of one that shows only what all show.

    Of a class that a share f of the images shows it is √(1 / f), of an image the largest of its classes. Repeat factor
    sampling of Gupta et al. 2019, arXiv 1908.03195, with their threshold at 1: at theirs, 0.001, only classes that
    fewer than one image in a thousand shows are drawn more often.
    """
    shown: dict[str, set[int]] = {image: set() for image in images}
    for row in rows:
        if row.file_name in shown and row.pixels and row.class_index != IGNORE:
            shown[row.file_name].add(row.class_index)
    counts = Counter(index for classes in shown.values() for index in classes)
    return [max((sqrt(len(images) / counts[index]) for index in shown[image]), default=1.0) for image in images]


def drawn(factors: Tensor, generator: torch.Generator) -> list[int]:
    """Return as many indices as there are `factors`, in random order, each as often as its factor's share of them.

    Rounded up or down at random: an image of share 1.3 is drawn once or twice. Where all are equal, each comes once.
    """
    order = torch.randperm(len(factors), generator=generator)
    # Systematic sampling: equal steps from a random start along the summed shares, float64.
    ends = factors.double()[order].cumsum(0)
    steps = (torch.arange(len(order)) + torch.rand((), generator=generator, dtype=torch.float64)) / len(order)
    found = torch.searchsorted(ends / ends[-1], steps, right=True).clamp_max(len(order) - 1)
    indices: list[int] = order[found][torch.randperm(len(order), generator=generator)].tolist()
    return indices


def sampling_line(factors: Sequence[float]) -> str:
    """Return a line that says how differently images are drawn."""
    ratio = max(factors, default=1.0) / min(factors, default=1.0)
    if ratio == 1:
        return "sampling: balanced has no effect here, every training image shows the same classes or equally rare ones"
    return f"sampling: images of the rarest class are drawn {ratio:.1f} times as often as those of the commonest"
