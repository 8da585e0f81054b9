"""The parameters of the stage `download_images`: apart from those of `download`, whose change is none of this stage."""

import msgspec

from cocoseg.core.redaction import refuse_secrets
from cocoseg.download.remote.catalog import DatasetName
from cocoseg.images.headers import ExifName


class DownloadImagesParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the stage `download_images`."""

    dataset: DatasetName
    images: str
    exif: ExifName
    """What to do with an EXIF orientation that the annotated sizes do not decide: `auto` leaves the image as stored and
    counts it, `follow` turns it, `ignore` leaves it."""

    def __post_init__(self) -> None:
        refuse_secrets("images", self.images)
