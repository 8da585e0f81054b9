"""Choose annotations and images by what their entries say, before any image is fetched."""

from cocoseg import paths
from cocoseg.accounts import closing_line
from cocoseg.core.files import write_json
from cocoseg.core.stage import run, say
from cocoseg.filter.choose import filter_file
from cocoseg.filter.params import FilterParams


def main(params: FilterParams) -> None:
    """From every annotation of the dataset to those that the parameters ask for."""
    metrics = filter_file(paths.RAW, paths.FILTERED, params)
    write_json(paths.FILTER_METRICS, metrics)
    say(closing_line(metrics))


if __name__ == "__main__":
    run(main, FilterParams)
