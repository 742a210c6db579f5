"""The roofline by hand."""

from __future__ import annotations

import pytest

from saccade.proto.devices import DEVICES, Device, find_device
from saccade.proto.errors import DeviceError
from saccade.proto.roofline import (
    ACTION_HEAD,
    DECODE,
    NATIVE,
    PRECISIONS,
    PREFILL,
    VISION,
    Part,
    bounds,
    part_bytes,
    supports,
)

TOY = Device("toy", "Toy", 100.0, {"fp32": 5.0, "fp16": 10.0, "int8": 20.0}, "fp16", "made up")
CPU = Device("cpu", "CPU", 100.0, {"fp32": 5.0}, "fp32", "made up")


@pytest.mark.parametrize(
    ("name", "precision", "device", "compute_s", "memory_s"),
    [
        # 2 * 50 FLOP at 10 a second; 3 passes of 7 weights and 11 numbers from a cache, 2 bytes each.
        (PREFILL, NATIVE, TOY, 10.0, (3 * 7 + 11) * 2 / 100),
        (PREFILL, "fp32", TOY, 20.0, (3 * 7 + 11) * 4 / 100),
        (PREFILL, "int8", TOY, 5.0, (3 * 7 * 1 + 11 * 2) / 100),
        (DECODE, "int4", TOY, 10.0, (3 * 7 * 0.515625 + 11 * 2) / 100),
        (VISION, "int8", TOY, 10.0, (3 * 7 + 11) * 2 / 100),  # not quantised
        (ACTION_HEAD, "int4", TOY, 10.0, (3 * 7 + 11) * 2 / 100),
        (VISION, "fp32", TOY, 20.0, (3 * 7 + 11) * 4 / 100),
        (PREFILL, NATIVE, CPU, 20.0, (3 * 7 + 11) * 4 / 100),
        (DECODE, "int4", CPU, 20.0, (3 * 7 * 0.515625 + 11 * 4) / 100),
    ],
)
def test_the_longer_time_counts(
    name: str, precision: str, device: Device, compute_s: float, memory_s: float
) -> None:
    part = Part(name, macs=50, weights=7, passes=3, kv_values=11)
    (bound,) = bounds([part], device, PRECISIONS[precision])
    assert bound.compute_s == pytest.approx(compute_s)
    assert bound.memory_s == pytest.approx(memory_s)
    assert bound.bytes == pytest.approx(part_bytes(part, device, PRECISIONS[precision]))
    assert bound.seconds == max(bound.compute_s, bound.memory_s)
    assert bound.is_compute_bound and bound.flops == 100


def test_many_weights_for_few_products_are_bandwidth_bound() -> None:
    (bound,) = bounds([Part(DECODE, macs=1, weights=1000)], TOY, PRECISIONS[NATIVE])
    assert not bound.is_compute_bound
    assert bound.seconds == 20.0


def test_arithmetic_that_a_machine_lacks_is_refused() -> None:
    assert not supports(CPU, PRECISIONS["fp8"])
    with pytest.raises(DeviceError, match=r"cpu: expected arithmetic that it has, fp32, found fp8"):
        bounds([], CPU, PRECISIONS["fp8"])


def test_a_device_is_found_by_name_or_its_neighbours_are_named() -> None:
    assert find_device("agx-orin").bandwidth == 204.8e9
    with pytest.raises(DeviceError, match=r"found 'agx-orinn'; did you mean 'agx-orin'\?"):
        find_device("agx-orinn")


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
def test_every_device_says_where_its_numbers_come_from(device: Device) -> None:
    assert len(device.source) > 40
    assert device.float_type in device.peaks
    peaks = device.peaks
    for wide, narrow in (("fp32", "fp16"), ("fp16", "int8"), ("fp16", "fp8"), ("fp8", "fp4")):
        if wide in peaks and narrow in peaks:
            assert peaks[narrow] > peaks[wide]


def test_ridges_are_those_of_the_notes_on_models() -> None:
    """Tokens in a pass above which a weight's product is compute-bound: peak * bytes of a weight / (2 * bandwidth)."""
    for name, precision, ridge in (
        ("agx-orin", "fp16", 208), ("agx-orin", "int4", 54), ("agx-orin", "int8", 208),
        ("agx-thor", "fp16", 949), ("agx-thor", "fp8", 947), ("agx-thor", "int4", 245), ("agx-thor", "nvfp4", 1066),
        ("rtx-4090", "fp16", 164), ("rtx-4090", "int4", 42), ("h200", "fp16", 206), ("h200", "fp8", 206),
    ):  # fmt: skip
        device = find_device(name)
        for tokens, compute_bound in ((round(0.98 * ridge), False), (round(1.02 * ridge), True)):
            part = Part(PREFILL, macs=10**6 * tokens, weights=10**6)
            (bound,) = bounds([part], device, PRECISIONS[precision])
            assert bound.is_compute_bound is compute_bound, (name, precision, tokens)
