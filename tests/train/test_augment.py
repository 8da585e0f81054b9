import math

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from cocoseg.model.params import ResizeName
from cocoseg.model.preprocessing import BORDER_RGB
from cocoseg.train.augment import DEGREES, augmentation, augmented
from cocoseg.train.params import AugmentName, FlipsName

NAMES: tuple[AugmentName, ...] = ("none", "light", "strong")
TO_SQUARES: tuple[ResizeName, ...] = ("squash", "crop")


def geometry(name: AugmentName, image_size_px: int, resize: ResizeName = "squash") -> v2.Compose:
    """The transforms of that name that move pixels, without those of colors that come after."""
    steps = list(augmentation(name, image_size_px, resize).transforms)
    colors = [place for place, step in enumerate(steps) if isinstance(step, v2.ColorJitter)]
    return v2.Compose(steps[: colors[0]] if colors else steps)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 60), (90, 45)])
def test_every_augmentation_ends_with_the_networks_square(name: AugmentName, height: int, width: int) -> None:
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    mask = torch.zeros(height, width, dtype=torch.uint8)
    out_image, out_mask = augmented(augmentation(name, 32), image, mask)
    assert (out_image.shape, out_mask.shape) == ((3, 32, 32), (32, 32))
    assert (out_image.dtype, out_mask.dtype) == (torch.uint8, torch.uint8)


def test_image_and_mask_move_together_and_borders_are_ignored() -> None:
    # Where the image is white the mask is 1, where it is black 0: true before, so true after, but for edges.
    mask = torch.zeros(48, 48, dtype=torch.uint8)
    mask[8:40, 20:44] = 1
    image = (mask * 255).expand(3, -1, -1).contiguous()
    transforms = augmentation("light", 48)
    ignored = 0
    for seed in range(20):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            out_image, out_mask = augmented(transforms, image, mask)
        inside = out_mask != 255
        assert ((out_image[0] > 127) == (out_mask == 1))[inside].float().mean() > 0.97
        border = torch.tensor(BORDER_RGB, dtype=torch.uint8)[:, None]
        assert (out_image[:, ~inside] == border).all()
        ignored += int((~inside).sum())
    assert ignored > 0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (20, 60), (200, 300), (10, 10)])
def test_a_crop_shows_the_image_and_its_mask_at_one_place_and_border_beyond_them(
    name: AugmentName, height: int, width: int
) -> None:
    mask = torch.zeros(height, width, dtype=torch.uint8)
    mask[height // 4 : height // 2, width // 3 : width // 2] = 1
    image = (mask * 255).expand(3, -1, -1).contiguous()
    transforms = geometry(name, 64, "crop")
    for seed in range(10):
        torch.manual_seed(seed)
        out_image, out_mask = augmented(transforms, image, mask)
        assert (out_image.shape, out_mask.shape, out_image.dtype) == ((3, 64, 64), (64, 64), torch.uint8)
        inside = out_mask != 255
        assert inside.any()
        assert ((out_image[0] > 127) == (out_mask == 1))[inside].float().mean() > 0.93


@pytest.mark.parametrize("resize", TO_SQUARES)
def test_the_mask_of_a_turned_image_lies_where_the_image_does(resize: ResizeName) -> None:
    mask = torch.zeros(96, 96, dtype=torch.uint8)
    mask[30:70, 40:50] = 1
    image = (mask * 255).expand(3, -1, -1).contiguous()
    transforms, rows = geometry("strong", 96, resize), torch.arange(96.0)
    torch.manual_seed(0)
    off = []
    for _ in range(100):
        out_image, out_mask = augmented(transforms, image, mask)
        bright, own = (out_image[0] > 127).float(), (out_mask == 1).float()
        if own[1:-1, 1:-1].sum() == own.sum() > 50:  # else the edge of the square cuts it off
            axes = [(part.sum(axis) @ rows / part.sum()) for axis in (0, 1) for part in (bright, own)]
            off.append([axes[0] - axes[1], axes[2] - axes[3]])
    assert len(off) > 30
    # A mask that was resized or turned by rounding down would lie half a pixel off.
    assert torch.tensor(off).mean(dim=0).abs().max() < 0.1


@pytest.mark.parametrize("resize", TO_SQUARES)
def test_half_of_the_strong_ones_turn_by_up_to_ten_degrees(resize: ResizeName) -> None:
    mask = torch.zeros(256, 256, dtype=torch.uint8)
    mask[128:] = 1
    torch.manual_seed(0)
    angles = []
    for _ in range(60):
        _, out = augmented(geometry("strong", 128, resize), torch.zeros(3, 256, 256, dtype=torch.uint8), mask)
        edge = (out[:-1] == 0) & (out[1:] == 1)
        columns = edge.any(0).nonzero()[:, 0]
        if len(columns) > 40:  # else the edge lies outside
            slope = np.polyfit(columns.numpy(), edge.int().argmax(0)[columns].numpy(), 1)[0]
            angles.append(abs(math.degrees(math.atan(slope))))
    assert len(angles) > 25
    assert 0.3 < np.mean(np.array(angles) < 0.1) < 0.7
    assert DEGREES - 3 < max(angles) < DEGREES + 0.5


def test_what_turns_into_a_square_is_ignored_where_the_image_ends_and_else_the_image() -> None:
    # All is class 1, so a 0 would be a border that is labeled background.
    torch.manual_seed(0)
    for side, resize, least, most in ((96, "squash", 0.05, 1), (96, "crop", 0.05, 1), (2000, "crop", 0, 0.01)):
        ignored = 0.0
        for _ in range(30):
            image, mask = torch.full((3, side, side), 9, dtype=torch.uint8), torch.ones(side, side, dtype=torch.uint8)
            transforms = geometry("strong", 96, "crop" if resize == "crop" else "squash")
            out_image, out_mask = augmented(transforms, image, mask)
            assert set(out_mask.flatten().tolist()) <= {1, 255}
            assert (out_image[0][out_mask == 1] < 100).all()  # at its edge a mix with the border's 124
            ignored += (out_mask == 255).float().mean().item() / 30
        assert least <= ignored <= most


@pytest.mark.parametrize(("flips", "views"), [("none", 1), ("horizontal", 2), ("both", 4), ("all", 8)])
@pytest.mark.parametrize("resize", TO_SQUARES)
def test_flips_show_so_many_views_of_image_and_mask_alike(flips: FlipsName, views: int, resize: ResizeName) -> None:
    mask = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).repeat_interleave(48, 0).repeat_interleave(48, 1)
    image = (mask * 60).expand(3, -1, -1).contiguous()
    transforms = augmentation("light", 96, resize, flips)
    torch.manual_seed(0)
    seen = set()
    for _ in range(60):
        out_image, out_mask = augmented(transforms, image, mask)
        corners = out_mask[24::48, 24::48].flatten()
        assert out_image[0, 24::48, 24::48].flatten().tolist() == (corners * 60).tolist()
        seen.add(tuple(corners.tolist()))
    assert len(seen) == views
    assert (1, 2, 3, 4) in seen


@pytest.mark.parametrize("name", ["none", "strong"])
def test_half_of_the_crops_show_a_random_class_so_small_objects_are_seen(name: AugmentName) -> None:
    mask = torch.zeros(1000, 1000, dtype=torch.uint8)
    mask[500:508, 200:208] = 1  # 64 of a million pixels: a crop that lies anywhere shows one of them once in 180
    mask[900:] = 255
    transforms = augmentation(name, 64, "crop")
    image = torch.zeros(3, 1000, 1000, dtype=torch.uint8)
    torch.manual_seed(0)
    shown = sum(bool((augmented(transforms, image, mask)[1] == 1).any()) for _ in range(200))
    assert (
        80 < shown < 120
    )  # half of the crops choose a class, and there is but one beside background: 100 are expected


def test_a_crop_of_a_mask_without_a_class_lies_anywhere() -> None:
    transforms = augmentation("none", 8, "crop")
    for value in (0, 255):
        whole = torch.full((9, 9), value, dtype=torch.uint8)
        _, mask = augmented(transforms, torch.zeros(3, 9, 9, dtype=torch.uint8), whole)
        assert (mask == value).all()


def test_masks_keep_their_values() -> None:
    mask = torch.randint(0, 80, (64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8) * 3
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    _, out = augmented(augmentation("strong", 32), image, mask)
    assert set(out.flatten().tolist()) <= set(mask.flatten().tolist()) | {255}
