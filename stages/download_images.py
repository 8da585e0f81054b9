"""Fetch or draw the chosen images, check each of them, and list them with their status."""

from cocoseg import paths
from cocoseg.coco.format import Instances
from cocoseg.core.files import read_json, write_table
from cocoseg.core.stage import run, say
from cocoseg.download.images import download_images, remarks
from cocoseg.download.images_params import DownloadImagesParams
from cocoseg.tables import ImageRow


def main(params: DownloadImagesParams) -> None:
    """Read the filtered annotations; write the files of their images, and the image table."""
    images = read_json(paths.FILTERED, Instances).images
    rows = download_images(images, params, paths.IMAGES)
    write_table(paths.IMAGE_TABLE, rows, ImageRow)
    for line in remarks(rows, images):
        say(line)


if __name__ == "__main__":
    run(main, DownloadImagesParams)
