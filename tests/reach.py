"""Which stages a line of a module can touch, worked out by hand."""

REACHED_FROM = {
    "commands/released": "",
    "commands/verify/verify": "",
    "core/params": "download filter download_images mask split train evaluate",
    "download/remote/http": "download download_images",
    "evaluate/iou_bars": "evaluate",
    "evaluate/restore": "evaluate",
    "filter/choose": "filter",
    "mask/painting": "mask",
    "pictures/gallery": "mask train evaluate",
    "split/exact": "split",
    "train/curves": "train",
    "train/losses": "train",
}
