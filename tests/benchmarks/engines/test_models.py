"""Models as large as the machine holds."""

from __future__ import annotations

import click
import pytest

from benchmarks.engines.models import MINI, OFT, SIZES, SMOLVLA, Size, choose, named


def size(name: str, parameters: int) -> Size:
    return Size(name, 600, lambda: parameters, lambda folder: folder)


LARGE_TO_SMALL = [size("large", 10**9), size("middle", 10**8), size("small", 10**7)]


@pytest.mark.parametrize(
    ("memory_gb", "flops", "wanted"),
    [(100, 1e12, "large"), (100, 3e10, "middle"), (10, 1e12, "middle"), (0.01, 1e12, "small"), (100, 1, "small")],
)  # fmt: skip
def test_the_largest_that_fits_memory_and_patience_is_taken(
    memory_gb: float, flops: float, wanted: str
) -> None:
    found = choose(LARGE_TO_SMALL, memory_bytes=round(memory_gb * 1e9), copies=9, flops=flops, most_step_s=20)
    assert found.name == wanted


def test_a_size_can_be_named() -> None:
    assert named(LARGE_TO_SMALL, "middle").name == "middle"
    with pytest.raises(click.ClickException, match="expected a size of large, middle, small, found 'huge'"):
        named(LARGE_TO_SMALL, "huge")


def test_published_shapes_have_the_published_number_of_weights() -> None:
    """Counted from the configuration, as the readers of the families read it; nothing is drawn."""
    oft, smolvla = SIZES[OFT], SIZES[SMOLVLA]
    assert SIZES[MINI] is None and oft is not None and smolvla is not None
    assert oft[0].parameters() == pytest.approx(7.5e9, rel=0.05)
    assert smolvla[0].parameters() == pytest.approx(0.37e9, rel=0.15), "16 of 32 layers, and no head"
    for sizes in (oft, smolvla):
        counts = [found.parameters() for found in sizes]
        assert counts == sorted(counts, reverse=True) and counts[-1] < 10**7
