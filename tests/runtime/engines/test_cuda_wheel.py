"""Which GPUs the wheels of ONNX Runtime have machine code for: CUDA's rule for code of the same major number."""

from __future__ import annotations

import pytest

from saccade.runtime.engines.cuda_wheel import runs_on


@pytest.mark.parametrize(
    ("compute_capability", "processor", "expected"),
    [
        ((8, 7), "aarch64", False),  # Orin
        ((11, 0), "aarch64", False),  # Thor
        ((12, 1), "aarch64", True),
        ((8, 7), "x86_64", True),  # code of 8.6 runs on 8.7
        ((7, 0), "x86_64", False),
        ((9, 0), "x86_64", True),
        ((10, 0), "x86_64", False),
        ((12, 1), "x86_64", True),
        ((8, 7), "riscv64", True),  # there is no wheel, so whoever has it built it
    ],
)
def test_code_runs_on_the_same_major_number_and_no_older_minor(
    compute_capability: tuple[int, int], processor: str, *, expected: bool
) -> None:
    assert runs_on(compute_capability, processor) == expected
