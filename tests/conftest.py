"""Settings of every test run: fixed seeds, no timed assertions, GPU tests only where there is a GPU."""

from __future__ import annotations

import os

import hypothesis
import pytest

# Tests run side by side, a worker for each core: more threads would only wait for each other. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Helpers that assert outside test files still show both sides of a failed comparison.
pytest.register_assert_rewrite(
    "tests.contracts", "saccade.policies.testing.conformance", "saccade.policies.testing.kv_conformance"
)

# No deadline: a slow machine is not a failure. Derandomised: a red run is red again.
hypothesis.settings.register_profile("saccade", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile("saccade")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``gpu`` on a machine without CUDA."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
