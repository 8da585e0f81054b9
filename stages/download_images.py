"""Bring the chosen images here, each checked, and note of every one whether it is there."""

from cocoseg import paths
from cocoseg.coco.format import Instances
from cocoseg.core.files import read_json, write_table
from cocoseg.core.stage import run, say
from cocoseg.download.images import DownloadImagesParams, download_images, remarks
from cocoseg.tables import ImageRow


def main(params: DownloadImagesParams) -> None:
    """From the filtered annotations to the files of their images."""
    images = read_json(paths.FILTERED, Instances).images
    rows = download_images(images, params, paths.IMAGES)
    write_table(paths.IMAGE_TABLE, rows, ImageRow)
    for line in remarks(rows):
        say(line)


if __name__ == "__main__":
    run(main, DownloadImagesParams)
