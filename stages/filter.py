"""Choose annotations and images by what their entries say, before any image is fetched."""

import gc
from pathlib import Path

from cocoseg.coco import encoded
from cocoseg.files import mapped, release, whole_file, write_json
from cocoseg.filter import FilterParams, filter_instances
from cocoseg.stage import run

RAW = Path("data/raw/instances.json")
FILTERED = Path("data/filtered/instances.json")
METRICS = Path("metrics/filter.json")


def main(params: FilterParams) -> None:
    """From every annotation of the dataset to those that the parameters ask for."""
    raw = mapped(RAW)
    gc.disable()  # a million small objects and not one cycle: looking for cycles takes a tenth of the time
    instances, metrics = filter_instances(raw, params, RAW)
    with whole_file(FILTERED) as file:
        for piece in encoded(instances):
            file.write(piece)
            release(raw)
    write_json(METRICS, metrics)


if __name__ == "__main__":
    run(main, FilterParams)
