"""What the profiles of a bundle are called."""

FULL_PROFILE = "full"
"""The profile in which every visual token survives."""


def profile_name(keep_ratio: float) -> str:
    """Return the name of the profile that keeps a share of the visual tokens: ``full``, ``keep50``, ``keep12.5`` ..."""
    return FULL_PROFILE if keep_ratio == 1.0 else f"keep{100 * keep_ratio:g}"
