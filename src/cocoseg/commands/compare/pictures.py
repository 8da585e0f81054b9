"""The images that changed most between two runs, side by side."""

import tempfile
from pathlib import Path

from cocoseg.coco.file_names import mask_name
from cocoseg.commands.compare.compare import Comparison, ImageChange
from cocoseg.commands.compare.runs import IMAGES, MASKS, PREDICTIONS
from cocoseg.commands.revisions import Revision
from cocoseg.core.files import write_bytes
from cocoseg.images.pairs import Pair, read_mask, read_pair
from cocoseg.images.png import encode_png
from cocoseg.pictures.gallery import GalleryRow, gallery

FILE = "changed.png"


def write_changed_images(folder: Path, comparison: Comparison, base: Revision, new: Revision) -> str:
    """Draw the changed images below `folder`, the base on the left, and return the path of the picture.

    Only the files of those images are fetched. Raises `CocosegError` for one that is nowhere.
    """
    classes = comparison.classes
    rows = [row for change in comparison.images_changed for row in _rows(change, classes, base, new)]
    path = folder / FILE
    write_bytes(path, encode_png(gallery(rows, classes, columns=2, title=f"left: {base.name}, right: {new.name}")))
    return path.as_posix()


def _rows(change: ImageChange, classes: tuple[str, ...], base: Revision, new: Revision) -> list[GalleryRow]:
    name = change.file_name
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)

        def fetched(revision: Revision, path: str, kind: str) -> Path:
            file = here / kind / Path(path).name
            write_bytes(file, revision.cached(path))
            return file

        mask = fetched(new, f"{MASKS}/{mask_name(name)}", "mask")
        image, truth = read_pair(
            Pair(file_name=name, image=fetched(new, f"{IMAGES}/{name}", "image"), mask=mask), len(classes)
        )
        rows = []
        for revision, score, kind in ((base, change.base, "base"), (new, change.new, "new")):
            predicted = fetched(revision, f"{PREDICTIONS}/{mask_name(name)}", kind)
            prediction = read_mask(
                Pair(file_name=name, image=predicted, mask=predicted), len(classes), stage="evaluate"
            )
            caption = f"{kind}   IoU {score:.2f}   {name}"
            rows.append(GalleryRow(image=image, truth=truth, prediction=prediction, caption=caption))
        return rows
