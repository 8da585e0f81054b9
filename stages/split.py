"""Split the masked images into training, validation and test."""

from cocoseg import paths
from cocoseg.core.files import read_table, write_bytes, write_json, write_lines
from cocoseg.core.stage import run, say
from cocoseg.images.png import encode_png
from cocoseg.split.groups import find_groups
from cocoseg.split.params import SplitParams
from cocoseg.split.side_shares import side_shares
from cocoseg.split.sides import closing_line, split_images, split_metrics
from cocoseg.tables import ImageRow, MaskRow


def main(params: SplitParams) -> None:
    """Read the tables of images and masks; write a list of file names per side, metrics, and a picture."""
    images = read_table(paths.IMAGE_TABLE, ImageRow)
    rows = read_table(paths.MASK_TABLE, MaskRow)
    name_of = {row.image_id: row.file_name for row in images}
    masked = {row.image_id for row in rows}
    groups = find_groups({one: name for one, name in name_of.items() if one in masked}, params)
    sides = split_images(images, rows, params, groups)
    for side, image_ids in sides.items():
        write_lines(paths.SPLITS / f"{side}.txt", sorted(name_of[image_id] for image_id in image_ids))
    metrics = split_metrics(sides, images, rows, params, groups)
    write_json(paths.SPLIT_METRICS, metrics)
    write_bytes(paths.SPLIT_PLOTS / "classes.png", encode_png(side_shares(metrics["sides"])))
    say(closing_line(metrics))


if __name__ == "__main__":
    run(main, SplitParams)
