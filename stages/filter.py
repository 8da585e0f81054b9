"""Choose annotations and images by what their entries say, before any image is fetched."""

from pathlib import Path

from cocoseg.core.files import write_json
from cocoseg.core.stage import run
from cocoseg.filter.choose import FilterParams, filter_file

RAW = Path("data/raw/instances.json")
FILTERED = Path("data/filtered/instances.json")
METRICS = Path("metrics/filter.json")


def main(params: FilterParams) -> None:
    """From every annotation of the dataset to those that the parameters ask for."""
    write_json(METRICS, filter_file(RAW, FILTERED, params))


if __name__ == "__main__":
    run(main, FilterParams)
