"""Bring the annotations of the dataset here, verified."""

from cocoseg import paths
from cocoseg.core.files import write_bytes
from cocoseg.core.stage import run
from cocoseg.download.annotations import DownloadParams, instances_json


def main(params: DownloadParams) -> None:
    """From a dataset's name, or a place of the user's own, to an annotations file."""
    write_bytes(paths.RAW, instances_json(params))


if __name__ == "__main__":
    run(main, DownloadParams)
