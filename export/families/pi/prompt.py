"""The prompts of π0 and π0.5, with the robot's state in words and without it.

Source:
    lerobot 0.6.1, ``processor_pi0.py`` and ``processor_pi05.py``; openpi 15a9616, ``PaligemmaTokenizer.tokenize``.
"""

from __future__ import annotations

from typing import NamedTuple

from saccade.export.families.pi import pi0, pi05
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.lerobot_processors import PREPROCESSOR, ends_the_line, processor_steps

_STATE_STEP, _PLAIN_STEP = "pi05_prepare_state_tokenizer_processor_step", "pi0_new_line_processor"
"""Steps of lerobot's preprocessor that write the state into the prompt, and that write none."""


class PiPrompt(NamedTuple):
    """How the prompt of π0 or π0.5 is written.

    Args:
        template: Text of the prompt, with ``{instruction}`` once, and ``{state}`` where the state is in text.
        tokens: Length that the published processors pad the prompt to, tokens.
        state_bins: Bins that each number of the state falls into, to be written in text; 0 = the state is not in the
            prompt.
        is_always_cleaned: Underscores and line breaks of an instruction go, whoever wrote the checkpoint; else only in
            openpi's.
    """

    template: str
    tokens: int
    state_bins: int
    is_always_cleaned: bool


PI0_PROMPT = PiPrompt("{instruction}\n", pi0.PROMPT_TOKENS, state_bins=0, is_always_cleaned=False)
PI05_PROMPT = PiPrompt(
    "Task: {instruction}, State: {state};\nAction: ",
    pi05.PROMPT_TOKENS,
    state_bins=256,
    is_always_cleaned=True,
)


def templates(folder: CheckpointFolder, prompt: PiPrompt) -> tuple[str, ...]:
    """Return the prompts that a checkpoint may have been trained with, the usual one first.

    lerobot's processor says which; openpi trains some π0.5 without the state (``discrete_state_input``), and no file
    of its conversion tells.

    Args:
        folder: The checkpoint that is read.
        prompt: How the family's prompt is usually written.

    Raises:
        CheckpointError: The processor's file is broken.
    """
    if not prompt.state_bins:
        return (prompt.template if ends_the_line(folder) else prompt.template.rstrip("\n"),)
    stated = (prompt.template, PI0_PROMPT.template)
    for step, told in ((_STATE_STEP, stated[:1]), (_PLAIN_STEP, stated[1:])):
        if folder.has(PREPROCESSOR) and processor_steps(folder, PREPROCESSOR, step):
            return told
    return stated
