"""An environment of the tests' own: no test is about what a user, a job of SLURM or a hook of git has set."""

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

at_end = ExitStack()  # what is done when all tests are through; pytest-xdist's processes end without `atexit`

# A hook's GIT_DIR would have tests commit to the user's repository.
_FOREIGN = (
    *("AWS_", "COCOSEG_", "DVC_", "GIT_", "GITHUB_", "HF_", "HUGGING", "MASTER_", "MPL", "OMPI_", "PMI", "SLURM_"),
    *("TORCH", "WANDB_"),
)
_FOREIGN_NAMES = {
    *("CLICOLOR_FORCE", "COLUMNS", "FORCE_COLOR", "LINES", "NETRC", "NO_COLOR", "PYTHONHASHSEED"),
    *("PYTHONWARNINGS", "RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"),
}
# How to reach the rest of the world, and which tests are to run.
_KEPT = ("AWS_CA_BUNDLE", "COCOSEG_TEST", "GIT_EXEC_PATH", "GIT_SSL", "MPLCONFIGDIR", "TORCH_HOME")


def set_up() -> None:
    """Take away what others have set, and set where git, DVC and cocoseg look for settings and keep what they note."""
    for name in list(os.environ):
        if (name.startswith(_FOREIGN) or name in _FOREIGN_NAMES) and not name.startswith(_KEPT):
            del os.environ[name]
    folder = Path(tempfile.mkdtemp(prefix="cocoseg-tests-"))
    at_end.callback(shutil.rmtree, folder, ignore_errors=True)
    os.environ |= {
        "GIT_CONFIG_GLOBAL": str(Path(__file__).with_name("gitconfig")),
        "GIT_CONFIG_NOSYSTEM": "1",
        "AWS_CONFIG_FILE": str(folder / "aws"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "aws"),
        "COCOSEG_CACHE": str(folder / "cocoseg"),
        "DVC_GLOBAL_CONFIG_DIR": str(folder / "dvc"),
        "DVC_SYSTEM_CONFIG_DIR": str(folder / "dvc"),
        "DVC_SITE_CACHE_DIR": str(folder / "dvc-site"),
        # Three tests run at a time and start processes: with several threads each they would compete for the cores.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
