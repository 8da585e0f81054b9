"""Print the sources of the data, as params.yaml names them, that this clone lacks."""

import sys
from pathlib import Path

from ruamel.yaml import YAML

params = YAML(typ="safe", pure=True).load(Path("params.yaml"))
sources = (params["annotations"], params["images"])
sys.stdout.write(", ".join(path for path in sources if "://" not in path and not Path(path).exists()))
