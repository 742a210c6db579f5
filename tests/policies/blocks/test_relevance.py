"""Two scores and one budget: each way to choose equals its oracle."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saccade.policies.blocks.relevance import RELEVANCE
from tests.policies import oracles


@pytest.mark.parametrize("way", list(RELEVANCE))
@given(seed=st.integers(0, 10_000), keep=st.integers(1, 39))
def test_chooses_what_the_oracle_chooses(way: str, seed: int, keep: int) -> None:
    random = np.random.default_rng(seed)
    semantic, action = random.dirichlet(np.ones(40), 2).astype(np.float32)
    embeddings = random.standard_normal((40, 8)).astype(np.float32)
    tensors = [torch.from_numpy(array)[None] for array in (semantic, action, embeddings)]
    kept = RELEVANCE[way](tensors, keep)[0].tolist()
    if way == "union":
        assert kept == oracles.vla_pruner(semantic, action, embeddings, keep)
    else:
        assert kept == oracles.ABLATIONS[way](semantic, action, keep)
