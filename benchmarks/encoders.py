"""Try smp's architectures with encoders of six families at three sizes: `uv run benchmarks/encoders.py`.

Each model is built without weights and takes one training step. Prints a line for each architecture and encoder, then
each reason why a model does not work, and where. `--meta` works out shapes only, in a fifth of the time.
"""

import argparse
import sys
import warnings
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).parents[1] / "src")]
from cocoseg.core.errors import CocosegError
from cocoseg.model.architectures import build_model, check_model

ARCHITECTURES = (
    "unet", "unetplusplus", "manet", "linknet", "fpn", "pspnet", "deeplabv3", "deeplabv3plus", "pan", "upernet",
    "segformer", "dpt",
)  # fmt: skip
ENCODERS = (
    "resnet18", "tu-convnext_atto", "tu-swin_tiny_patch4_window7_224", "tu-hiera_tiny_224",
    "tu-vit_small_patch14_dinov2", "tu-vit_small_patch16_dinov3",
)  # fmt: skip
SIZES = (96, 224, 320)


def try_step(arch: str, encoder: str, size: int, meta: bool) -> None:
    """Build the model and take one step. Raises `CocosegError` if either does not work."""
    with torch.device("meta") if meta else nullcontext():
        model = build_model(arch, encoder, "none", 3, size).train()
        check_model(model, size, smallest_batch=2)
        logits = model(torch.zeros(2, 3, size, size))
        assert logits.shape == (2, 3, size, size)
        logits.mean().backward()


def main() -> None:
    """Print the table and the reasons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meta", action="store_true", help="work out shapes only")
    meta = parser.parse_args().meta
    warnings.simplefilter("ignore")  # smp's, of DPT without a class token
    reasons: defaultdict[str, list[str]] = defaultdict(list)
    work = 0
    print(f"{'':34}{'':16}" + "".join(f"{size:>6}" for size in SIZES))
    for encoder in ENCODERS:
        for arch in ARCHITECTURES:
            marks = []
            for size in SIZES:
                try:
                    try_step(arch, encoder, size, meta)
                    marks.append("yes")
                except CocosegError as error:
                    marks.append("no")
                    reasons[str(error)].append(f"{arch}/{size}")
            work += marks.count("yes")
            print(f"{encoder:34}{arch:16}" + "".join(f"{mark:>6}" for mark in marks), flush=True)
    print(f"\n{work} of {len(ENCODERS) * len(ARCHITECTURES) * len(SIZES)} work")
    for reason, places in reasons.items():
        print(f"{' '.join(places)}: {reason}")


if __name__ == "__main__":
    main()
