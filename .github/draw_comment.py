"""Draw the comment on a pull request as a reader sees it, for the README.

    uv run --with markdown-it-py .github/draw_comment.py comment.md docs/review_comment.png

`comment.md` is what the workflow `review` wrote in its step "Write the comment", or what the same lines write here. The
`chromium` on the path does the drawing. The cost at the end, which depends on the machine, is left out.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from markdown_it import MarkdownIt

WIDTH_PX = 840
_SCALE = 1.25  # so that the letters can still be read where a phone shrinks the page
_TALLEST_PX = 4000
_MARGIN_PX = 24
_PAGE = """<!doctype html><meta charset="utf-8"><style>
body { margin: 16px; font: 14px/1.5 "DejaVu Sans", sans-serif; color: #1f2328; background: #fff; }
h2 { border-bottom: 1px solid #d1d9e0; padding-bottom: 6px; } h3 { margin-top: 24px; }
table { border-collapse: collapse; margin: 12px 0; } th, td { border: 1px solid #d1d9e0; padding: 4px 6px; }
tr:nth-child(even) { background: #f6f8fa; }
pre { background: #f6f8fa; padding: 12px; white-space: pre-wrap; } code { font: 11px "DejaVu Sans Mono", monospace; }
blockquote { margin: 0; padding-left: 12px; border-left: 4px solid #d1d9e0; color: #59636e; }
</style>"""


def drawn(markdown: str) -> bytes:
    """Return a PNG of the comment, cropped to its content."""
    with tempfile.TemporaryDirectory() as name:
        page, shot = Path(name, "page.html"), Path(name, "shot.png")
        # A comment has HTML of its own, to fold details away.
        page.write_text(_PAGE + MarkdownIt("commonmark").enable("table").render(markdown.partition("\n### Cost")[0]))
        subprocess.run(
            ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", "--disable-gpu",
             "--disable-lcd-text",
             f"--force-device-scale-factor={_SCALE}",
             f"--window-size={WIDTH_PX / _SCALE:.0f},{_TALLEST_PX}", f"--screenshot={shot}", page.as_uri()],
            check=True, capture_output=True, timeout=60,
        )  # fmt: skip
        pixels = cv2.imread(str(shot))
    assert pixels is not None
    last = int(np.nonzero((pixels != 255).any(axis=(1, 2)))[0][-1])
    return cv2.imencode(".png", pixels[: last + _MARGIN_PX], [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_bytes(drawn(source.read_text()))
