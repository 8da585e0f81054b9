"""Fail if a page of the built site links to a file or an anchor that is not there: Zensical checks links between pages,
but no pictures. Usage: python .ci/links.py page
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path


def broken(page: Path) -> Iterator[str]:
    """Yield the links of a page that lead nowhere."""
    for link in re.findall(r'(?:src|href)="([^"#:?]*(?:#[^"]+)?)"', page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        target = target / "index.html" if target.is_dir() else target
        if not target.is_file() or (anchor and f'id="{anchor}"' not in target.read_text()):
            yield f"{page}: {link}"


if __name__ == "__main__":
    found = [line for page in sorted(Path(sys.argv[1]).rglob("index.html")) for line in broken(page)]
    sys.exit("\n".join(found) or 0)
