"""Fetch or draw the annotations of the dataset, and verify them."""

from cocoseg import paths
from cocoseg.core.files import write_bytes
from cocoseg.core.stage import run
from cocoseg.download.annotations import DownloadParams, instances_json


def main(params: DownloadParams) -> None:
    """Write the annotations file of a named dataset, of a path or of a URL."""
    write_bytes(paths.RAW, instances_json(params))


if __name__ == "__main__":
    run(main, DownloadParams)
