"""Choose annotations and images by what their entries say, before any image is fetched."""

from pathlib import Path

import msgspec

from cocoseg.files import write_bytes, write_json
from cocoseg.filter import FilterParams, filter_instances
from cocoseg.stage import run

RAW = Path("data/raw/instances.json")
FILTERED = Path("data/filtered/instances.json")
METRICS = Path("metrics/filter.json")


def main(params: FilterParams) -> None:
    """From every annotation of the dataset to those that the parameters ask for."""
    instances, metrics = filter_instances(RAW.read_bytes(), params, RAW)
    write_bytes(FILTERED, msgspec.json.encode(instances))
    write_json(METRICS, metrics)


if __name__ == "__main__":
    run(main, FilterParams)
