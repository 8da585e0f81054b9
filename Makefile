# The gate, the same here and in CI. `make check` is all of it.
.PHONY: check test lint format repro requirements

# No address of an index and no path, so that it is the same on every machine.
EXPORT = uv export --quiet --no-dev --group train --no-emit-project --no-header --no-annotate --format requirements-txt

check: test lint repro

test:
	uv run pytest -m ''

lint:
	uv run ruff format --check .
	uv run ruff check .
	uv run mypy
	uv run lint-imports
	$(EXPORT) | diff requirements.txt - || { echo "requirements.txt is out of date; run: make requirements" >&2; exit 1; }

format:
	uv run ruff format .
	uv run ruff check --fix .

# What an installation without the tools of development holds, with hashes, for people who audit.
requirements:
	$(EXPORT) >requirements.txt

# The whole pipeline in a fresh clone of the last commit; its data must come out as the committed dvc.lock says.
repro:
	.ci/repro
