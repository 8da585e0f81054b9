"""The parameters of the stage `download`."""

import msgspec

from cocoseg.core.redaction import refuse_secrets
from cocoseg.download.remote.catalog import DatasetName


class DownloadParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the stage `download`."""

    dataset: DatasetName
    """What to learn from: `sample` is drawn by code, `coco2017` and `coco2014` are train and val together, `custom` is
    your own."""
    annotations: str
    """For `custom`: a COCO instances file, by path or URL, or a local folder of [label
    maps](your-own-data.md#label-maps). DVC does not expand `~`."""
    images: str
    """For `custom`: the folder or URL that the `file_name`s are relative to."""

    def __post_init__(self) -> None:
        refuse_secrets("annotations", self.annotations)
        refuse_secrets("images", self.images)
