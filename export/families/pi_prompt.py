"""The prompts of π0 and π0.5 as text, BOS left to the tokenizer. No torch: the robot writes π0.5's in every step.

Source:
    openpi 15a9616, ``PaligemmaTokenizer.tokenize``; lerobot 0.6.1's ``Pi05PrepareStateTokenizerProcessorStep``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saccade.proto.errors import ProprioError

STATE_BINS = 256
"""Of equal width over -1..1, for each number of the state."""


def task_prompt(task: str) -> str:
    """Return the prompt of π0: the task on one line, and the newline that ends it."""
    return f"{_one_line(task)}\n"


def state_prompt(task: str, state: NDArray[np.floating]) -> str:
    """Return the prompt of π0.5: the task, then the state in words.

    Args:
        task: What to do.
        state: float ``(state_dim,)``, normalised to -1..1, as many numbers as the robot has: not padded.

    Raises:
        ProprioError: The state is not one row of finite numbers.
    """
    words = " ".join(str(number) for number in state_bins(state))
    return f"Task: {_one_line(task)}, State: {words};\nAction: "


def state_bins(state: NDArray[np.floating]) -> tuple[int, ...]:
    """Return the bin of each number: 0 to 255, and -1 below -1, which the models were trained with.

    Args:
        state: float ``(state_dim,)``.

    Raises:
        ProprioError: It is not one row of finite numbers.
    """
    if state.ndim != 1 or not np.isfinite(state).all():
        raise ProprioError(
            f"expected a state of one row of finite numbers, found shape {state.shape} and "
            f"{int((~np.isfinite(state)).sum())} numbers that are not finite; check the robot's sensors."
        )
    edges = np.linspace(-1.0, 1.0, STATE_BINS + 1)[:-1]
    return tuple(int(place) for place in np.digitize(state, edges) - 1)


def _one_line(task: str) -> str:
    return task.strip().replace("_", " ").replace("\n", " ")
