"""Print the entries of the data stages in a dvc.lock as JSON, for comparison."""

import json
import sys
from pathlib import Path

from ruamel.yaml import YAML

DATA_STAGES = ("download", "filter", "download_images", "mask", "split")

stages = YAML(typ="safe", pure=True).load(Path(sys.argv[1]))["stages"]
sys.stdout.write(json.dumps({stage: stages[stage] for stage in DATA_STAGES}, indent=2, sort_keys=True) + "\n")
