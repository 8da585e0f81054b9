# The checks, the same here and in CI. `make check` runs all of them.
.PHONY: check test lint format repro requirements parameters pictures site

# Without index URLs and paths, so that the output is the same on every machine.
EXPORT = uv export --quiet --no-dev --group train --no-emit-project --no-header --no-annotate --format requirements-txt

check: test lint repro

test:
	uv run pytest -m ''

# mypy in as many processes as there are cores: without a cache, as in CI, it is most of the time.
lint:
	uv run ruff format --check .
	uv run ruff check .
	MYPY_NUM_WORKERS=auto uv run mypy
	uv run lint-imports
	$(EXPORT) | diff requirements.txt - || { echo "requirements.txt is out of date; run: make requirements" >&2; exit 1; }

format:
	uv run ruff format .
	uv run ruff check --fix .

# Write the packages of an installation without development tools, with hashes, for audits.
requirements:
	$(EXPORT) >requirements.txt

# Write the page of all parameters from the code.
parameters:
	uv run .ci/parameters.py >docs/parameters.md

# Draw the pictures of docs/how-it-works.md that no stage writes.
pictures:
	uv run .ci/pictures.py

# Build the site of the documentation into page/.
site:
	.ci/site

# Run the whole pipeline in a fresh clone of the last commit; its data must match the committed dvc.lock.
repro:
	.ci/repro
