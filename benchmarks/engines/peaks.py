"""What the machine can do at best, by whatever on it is fastest: products of engines and PyTorch, memory read."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from saccade.proto.devices import FP32, Device

_SIDES = {"cpu": 1024, "cuda": 8192}
_READ = {"cpu": 2**26, "cuda": 2**30}
"""Numbers of float32 that are read for the bandwidth."""


def torch_peak(device: str, rounds: int = 20) -> Device:
    """Measure one large float32 product and one sum over much memory, the best of all rounds.

    Args:
        device: ``cpu`` or ``cuda``.
        rounds: How often each is measured.
    """
    side, numbers = _SIDES[device], torch.ones(_READ[device], device=device)
    left, right = (torch.randn(side, side, device=device) for _ in range(2))
    out = torch.empty(side, side, device=device)
    flops = 2 * side**3 / _fastest(lambda: torch.mm(left, right, out=out), device, rounds)
    bandwidth = 4 * len(numbers) / _fastest(numbers.sum, device, rounds)
    label = f"PyTorch on {device}, {torch.get_num_threads()} threads"
    source = f"a product of {side} x {side} matrices; {4 * len(numbers) >> 20} MiB summed"
    return Device("torch", label, bandwidth, {FP32: flops}, FP32, source)


def best(found: Sequence[Device]) -> Device:
    """Return the machine: the fastest product and the fastest read that anything on it reached.

    Args:
        found: Measurements, before and after the run.
    """
    product = max(found, key=lambda device: device.peaks[FP32])
    reading = max(found, key=lambda device: device.bandwidth)
    label = f"product: {product.label}; read: {reading.label}"
    source = f"{product.source} / {reading.source}"
    return Device("here", label, reading.bandwidth, {FP32: product.peaks[FP32]}, FP32, source)


def _fastest(run: Callable[[], Any], device: str, rounds: int) -> float:
    """Return the seconds of the fastest round; the first one only warms up."""
    seconds = []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
