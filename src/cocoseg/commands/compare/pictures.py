"""The images that changed most between two runs."""

import tempfile
from collections.abc import Collection
from pathlib import Path

from cocoseg.coco.file_names import mask_name
from cocoseg.commands.compare.compare import Comparison, ImageChange
from cocoseg.commands.compare.runs import IMAGE_TABLE, IMAGES, MASKS, PREDICTIONS
from cocoseg.commands.revisions import Revision, read_blobs
from cocoseg.core.files import decoded_table, write_bytes
from cocoseg.images.pairs import Pair, read_mask, read_pair
from cocoseg.images.png import encode_png
from cocoseg.pictures.gallery import GalleryRow, gallery, row
from cocoseg.tables import ImageRow, turned_images

FILE = "changed.png"


def write_changed_images(folder: Path, comparison: Comparison, base: Revision, new: Revision) -> str:
    """Draw the changed images below `folder`, each in a row of either run, and return the path of the picture.

    Only the files of those images are fetched. Raises `CocosegError` for one that is nowhere.
    """
    classes = comparison.classes
    images = decoded_table(new.cached(IMAGE_TABLE), ImageRow, IMAGE_TABLE) if comparison.images_changed else []
    turned = turned_images(images)
    rows = [row for change in comparison.images_changed for row in _rows(change, classes, base, new, turned)]
    path = folder / FILE
    write_bytes(path, encode_png(gallery(rows, classes, f"base: {base.name}, new: {new.name}")))
    return path.as_posix()


def is_committed(path: str, base: Revision, new: Revision) -> bool:
    """Return whether the commit `new` has a picture at this path, and not the one of an older comparison in `base`."""
    if new.commit is None or Path(path).is_absolute():
        return False
    here, before = read_blobs([f"{new.commit}:{path}", f"{base.commit}:{path}"])
    return here is not None and here != before


def _rows(
    change: ImageChange, classes: tuple[str, ...], base: Revision, new: Revision, turned: Collection[str]
) -> list[GalleryRow]:
    name = change.file_name
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)

        def fetched(revision: Revision, path: str, kind: str) -> Path:
            file = here / kind / Path(path).name
            write_bytes(file, revision.cached(path))
            return file

        mask = fetched(new, f"{MASKS}/{mask_name(name)}", "mask")
        image, truth = read_pair(
            Pair(
                file_name=name,
                image=fetched(new, f"{IMAGES}/{name}", "image"),
                mask=mask,
                turned=name in turned,
            ),
            len(classes),
        )
        rows = []
        for revision, score, kind in ((base, change.base, "base"), (new, change.new, "new")):
            predicted = fetched(revision, f"{PREDICTIONS}/{mask_name(name)}", kind)
            prediction = read_mask(
                Pair(file_name=name, image=predicted, mask=predicted), len(classes), stage="evaluate"
            )
            caption = f"{kind}   IoU {score:.2f}   {name}"
            rows.append(row(image, truth, prediction, caption))
        return rows
