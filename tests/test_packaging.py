"""What a package says of itself, and what it brings along."""

import re
import subprocess
import sys

import cv2
from clones import ROOT


def test_opencv_is_the_build_that_needs_no_display() -> None:
    # The other needs the system's libGL, and would overwrite this one if anything brought it along.
    assert re.search(r"GUI: +NONE", cv2.getBuildInformation())
    assert "opencv-python==" not in (ROOT / "requirements.txt").read_text()


def test_the_citation_is_valid_by_the_published_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.citation-file-format"]
    finished = subprocess.run([*command, "CITATION.cff"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
