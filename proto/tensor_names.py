"""The names by which host and graphs know their tensors."""

IMAGES = "images"
"""Pictures, uint8 ``(1, pictures, height, width, 3)``, RGB, from the host."""
PROPRIO = "proprio"
"""Normalised proprioception, float32 ``(1, dim)``, from the host."""
TOKEN_IDS = "token_ids"  # noqa: S105 - a tensor
"""The padded instruction or question, int64 ``(1, text)``, from the host."""
ATTENTION_MASK = "attention_mask"
"""True = valid, bool ``(1, positions)`` over the whole sequence, from the host."""
POSITION_IDS = "position_ids"
"""Rotary positions, int64 ``(1, positions)`` over the whole sequence, from the host."""
NOISE = "noise"
"""Standard normal numbers that actions are drawn from, float32 ``(1, chunk, noise)``, from the host."""
TOKEN = "token"  # noqa: S105 - a tensor
"""The last token of an answer, int64 ``(1, 1)``, from the host."""
TOKEN_POSITION = "token_position"  # noqa: S105 - a tensor
"""Rotary position of that token, int64 ``(1, 1)``, from the host."""
VIEW_SCORES = "task.view_scores"
"""How much each view matters, float32 ``(1, views)``, set by the host once per task."""

ACTIONS = "actions"
"""Normalised actions, float32 ``(1, chunk, action)``, a result."""
LOGITS = "logits"
"""Scores of the next token, float32 ``(1, vocab_size)``, a result."""
KEPT = "kept"
"""Original indices of the visual tokens that were kept, int64 ``(1, keep)``, ascending, a result."""
FATE = "fate"
"""Index of the kept token that carries each visual token, -1 = dropped, int64 ``(1, tokens)``, a result."""
SCORED_VIEWS = "view_scores"
"""How much a scorer says that each view matters, float32 ``(1, views)``, a result."""

CARRY_OUTPUT_SUFFIX = ".next"
"""Ends the name of a graph's output that the next control step reads under the name before it."""
