"""Fetch or draw the annotations of the dataset, and verify them."""

from cocoseg import paths
from cocoseg.core.files import write_bytes
from cocoseg.core.stage import run, say
from cocoseg.download.annotations import instances_json
from cocoseg.download.params import DownloadParams


def main(params: DownloadParams) -> None:
    """Write the annotations file of a named dataset, of a path or of a URL."""
    content = instances_json(params)
    write_bytes(paths.RAW, content)
    say(f"{paths.RAW}, {len(content) / 1e6:,.1f} MB")


if __name__ == "__main__":
    run(main, DownloadParams)
