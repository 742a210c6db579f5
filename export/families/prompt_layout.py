"""Where images stand in a prompt: text that never changes, visual tokens, and the text that the user writes.

In memory a sequence is ``[fixed] [visual] [text, padded on its right]``: fixed tokens (what comes before, between and
after the images, line breaks included) lie together, so that visual tokens are one run that a policy may thin. Where
each token *stands* is told by its order, which causal attention compares, and by its position, which rotary embedding
takes; both are the prompt's own. Attention asks for no other order in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

IMAGE = "<image>"
"""Mark that stands for a picture in the text of a prompt."""
NEWLINE = -1
"""In place of a token id: the learned line break that follows a row of patches."""
VISUAL_TOKEN = -2
"""In place of a token id: the next visual token."""

Item: TypeAlias = int
"""A token id, ``NEWLINE`` or ``VISUAL_TOKEN``."""


@dataclass(frozen=True)
class PromptLayout:
    """The prompt up to the user's text, token by token.

    Args:
        items: Token ids, line breaks and visual tokens, in the order in which they stand.
        max_text_tokens: Room for the user's text and for what closes the prompt.
    """

    items: tuple[Item, ...]
    max_text_tokens: int

    @property
    def fixed(self) -> tuple[Item, ...]:
        """Token ids and ``NEWLINE``, without visual tokens."""
        return tuple(item for item in self.items if item != VISUAL_TOKEN)

    @property
    def visual(self) -> int:
        """Number of visual tokens."""
        return self.items.count(VISUAL_TOKEN)

    @property
    def segments(self) -> dict[str, int]:
        """The sequence in memory: name to tokens."""
        return {"fixed": len(self.fixed), "visual": self.visual, "text": self.max_text_tokens}

    @property
    def order(self) -> tuple[int, ...]:
        """Where each token of the sequence in memory stands in the prompt."""
        places = range(len(self.items))
        fixed = [place for place in places if self.items[place] != VISUAL_TOKEN]
        visual = [place for place in places if self.items[place] == VISUAL_TOKEN]
        return (*fixed, *visual, *range(len(self.items), len(self.items) + self.max_text_tokens))


def grid_items(rows: int, columns: int, *, newline: bool) -> tuple[Item, ...]:
    """Return the items of one grid of patches, a line break after each row if ``newline``."""
    row = (VISUAL_TOKEN,) * columns + ((NEWLINE,) if newline else ())
    return row * rows


def lay_out_prompt(
    before: Sequence[int], images: Sequence[Sequence[Item]], between: Sequence[int]
) -> tuple[Item, ...]:
    """Return the items of a prompt with several images.

    Args:
        before: Token ids before the first image.
        images: Items of each image, one sequence for each.
        between: Token ids between two images.
    """
    items: list[Item] = list(before)
    for number, image in enumerate(images):
        items += [*(between if number else ()), *image]
    return tuple(items)
