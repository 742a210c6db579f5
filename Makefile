# make demo   an arm moves: daemon, client and simulator on the bundled model (no torch, no GPU)
# make test   every check there is, on CPU
# make docs   the pages of docs/ and the API as a site, served on this machine
#
# Each prepares what it needs in a virtual environment of its own; see .ci/setup.

export SACCADE_TORCH_GPU
TEST := .venv-test/bin

.PHONY: demo test docs lint types contracts generated pytest lowest environment clean

demo:
	@PYTHON="$(PYTHON)" .ci/setup demo
	.venv-demo/bin/saccade sim demo

test: lint types contracts generated pytest lowest

# A notice of mkdocs-material about versions that pyproject.toml rules out.
docs: export NO_MKDOCS_2_WARNING = 1
docs:
	@PYTHON="$(PYTHON)" .ci/setup test
	$(TEST)/mkdocs serve --strict --open

lint: environment
	$(TEST)/ruff check .
	$(TEST)/ruff format --check .

types: environment
	$(TEST)/mypy

contracts: environment
	$(TEST)/lint-imports

generated: environment
	$(TEST)/python -m saccade.proto.generate --check

pytest: environment
	$(TEST)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# The robot side with the lowest versions that pyproject.toml allows; those have neither torch nor transformers.
lowest:
	@PYTHON="$(PYTHON)" .ci/setup lowest
	.venv-lowest/bin/python -m pytest -n auto --dist worksteal -o addopts="--import-mode=importlib -ra" \
		-m "not reference" --ignore tests/proto/test_tiling.py --ignore tests/proto/test_video_spec.py \
		tests/proto tests/runtime tests/sim/tabletop tests/sim/test_connection.py

# Asked every time, answered at once when the environment already fits this checkout.
environment:
	@PYTHON="$(PYTHON)" .ci/setup test
	@PYTHON="$(PYTHON)" .ci/setup lerobot

clean:
	rm -rf .venv-demo .venv-test .venv-lowest .venv-lerobot build site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
