# The gate, the same here and in CI. `make check` is all of it.
.PHONY: check test lint format repro

check: test lint repro

test:
	uv run pytest

lint:
	uv run ruff format --check .
	uv run ruff check .
	uv run mypy
	uv run lint-imports

format:
	uv run ruff format .
	uv run ruff check --fix .

# The whole pipeline in a fresh clone of the last commit; its data must come out as the committed dvc.lock says.
repro:
	.ci/repro
