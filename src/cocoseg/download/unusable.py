"""Say why none of the images can be used, and the way out."""

import os
import unicodedata
from itertools import islice
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from cocoseg.coco.file_names import same_name
from cocoseg.coco.format import Image
from cocoseg.tables import ImageRow

_MOST_FOLDERS = 1000  # to search for a file that lies elsewhere
_OF_ANNOTATIONS = (".json", ".txt", ".xml")  # as tools write one beside each image
# How files begin that people take for images; of HEIC and AVIF after four bytes.
_OTHER_FORMATS = {
    b"ftyphei": "HEIC, a phone's format",
    b"ftypmif1": "HEIC, a phone's format",
    b"ftypavif": "AVIF",
    b"GIF8": "GIF",
    b"%PDF": "PDF",
    b"version https://git-lfs": "a git-LFS pointer, not the file",
}


def why_unusable(row: ImageRow, image: Image, folder: Path | None) -> str:
    """Return what is wrong with one image of `folder`, if that is a local one, and what to do about it."""
    name = row.file_name
    if row.status == "wrong_size":
        sizes = f"{name} has {row.width}×{row.height} pixels, but its entry says {image.width}×{image.height}"
        if (row.width or 0) * (image.height or 0) == (row.height or 0) * (image.width or 0):
            return f"{sizes}; it was scaled: name the images that were annotated, or scale their annotations, too"
        return (
            f"{sizes}; name the images that were annotated, or correct width and height: where they are missing, the "
            "image gives them"
        )
    if row.status == "missing" and folder is not None and (found := _elsewhere(folder, name)):
        return f"{name} is missing, but {found} is there; {_way_out(folder, name, found)}"
    if row.status == "not_an_image" and folder is not None and (kind := _other_format(folder / name)):
        return f"{name} is {kind}; expected JPEG, PNG, WebP, BMP or TIFF"
    return f"{name} is {row.status}; check the parameter images, the folder or URL that the file_names are relative to"


def _elsewhere(folder: Path, file_name: str) -> str | None:
    """Return the first file below `folder` that has the last part of `file_name`, case and code points aside.

    Else the first that has it but for its extension, which may also be missing in `file_name`.
    """
    name = PurePosixPath(file_name).name
    wanted = {same_name(name), same_name(unquote(name))}  # Label Studio writes é as %C3%A9
    stems = wanted | {same_name(PurePosixPath(name).stem)}
    of_stem = None
    for place, folders, files in islice(os.walk(folder), _MOST_FOLDERS):
        folders.sort()
        for file in sorted(files):
            found = (Path(place) / file).relative_to(folder).as_posix()
            if same_name(file) in wanted:
                return found
            if of_stem is None and same_name(Path(file).stem) in stems and not file.endswith(_OF_ANNOTATIONS):
                of_stem = found
    return of_stem


def _way_out(folder: Path, file_name: str, found: str) -> str:
    if found.endswith(f"/{file_name}"):
        return f"set images={folder / found.removesuffix(f'/{file_name}')}"
    if file_name == f"{folder.name}/{found}":
        return f"set images={folder.parent}"
    if unicodedata.normalize("NFC", file_name) == unicodedata.normalize("NFC", found):
        return (
            "its letters are other code points, as macOS writes them; run: convmv -f utf8 -t utf8 --nfc -r --notest ."
        )
    return "file_names must be those of the files, letter by letter, and relative to the parameter images"


def _other_format(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(64)
    return next((kind for magic, kind in _OTHER_FORMATS.items() if start.startswith((magic, start[:4] + magic))), None)
