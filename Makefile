# Two commands on a fresh machine: `make up` and `make test`. They need Python 3.11 and make; uv they get themselves.
UV := $(shell command -v uv 2>/dev/null || echo .ws/uv/bin/uv)

.PHONY: up down test test-long lint bench

up: $(UV)
	$(UV) run ws up

down: $(UV)
	$(UV) run ws down

test: $(UV)
	$(UV) run pytest

test-long: $(UV)
	$(UV) run pytest -m 'long and not soak'

lint: $(UV)
	$(UV) run ruff check .
	$(UV) run ruff format --check .
	$(UV) run mypy

bench: $(UV)
	$(UV) run python bench/up.py
	$(UV) run python bench/commands.py
	$(UV) run python bench/replicas.py
	$(UV) run python bench/election.py
	$(UV) run python bench/verdict.py
	$(UV) run python bench/discover.py
	$(UV) run python bench/connection.py
	$(UV) run python bench/tracker.py
	tools/get-peers
	$(UV) run python bench/transfer.py

.ws/uv/bin/uv:
	tools/get-uv .ws/uv
