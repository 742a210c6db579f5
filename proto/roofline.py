"""The roofline: the least time a device can take, from what is multiplied and what is read.

Each part of a model runs for itself and takes the longer of two times: its FLOPs at the peak of the arithmetic, or its
bytes at the bandwidth of the memory. One MAC is two FLOPs. Weights are read once in each pass, keys and values too;
activations, launches and preprocessing are left out, so that a real engine is slower: a well-tuned one reaches about
half of the compute peak and three quarters of the bandwidth.

Quantised weights are those of language model and action expert; vision, projector and action head stay in the device's
own float, and so do keys, values and what a policy computes.

Source:
    Williams, Waterman, Patterson: Roofline (CACM 2009).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from saccade.proto.devices import FP4, FP8, FP16, FP32, INT8, Device
from saccade.proto.errors import DeviceError

VISION, PROJECTOR, SELECTION = "vision", "projector", "selection"
DECODER, ACTION_HEAD = "decoder", "action_head"
PREFILL, DECODE, LM_HEAD = "prefill", "decode", "lm_head"
PREFIX, DENOISE = "prefix", "denoise"
QUANTISED = frozenset({DECODER, PREFILL, DECODE, LM_HEAD, PREFIX, DENOISE})
"""Parts whose weights a quantised precision stores in fewer bits."""
_FLOAT_BYTES = {FP32: 4, FP16: 2}


@dataclass(frozen=True)
class Part:
    """What one part of a model does in a control step, or in an answer.

    Args:
        name: Name of the part, e.g. :data:`DECODER`.
        macs: Multiply-accumulates of its matrix products, all passes.
        weights: Parameters that each pass reads.
        passes: How often the part runs.
        kv_values: How many numbers of keys and values are read from a cache, all passes.
    """

    name: str
    macs: int
    weights: int
    passes: int = 1
    kv_values: int = 0


@dataclass(frozen=True)
class Precision:
    """How weights are stored and multiplied.

    Args:
        name: Name that ``--dtype`` takes.
        weight_bytes: Bytes of one quantised weight, scales included; None = the device's own float.
        arithmetic: Arithmetic whose peak counts, e.g. ``int8``; None = the device's own float.
    """

    name: str
    weight_bytes: float | None
    arithmetic: str | None


NATIVE = "native"
PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision(NATIVE, None, None),
        Precision(FP32, 4, FP32),
        Precision(FP16, 2, FP16),
        Precision("bf16", 2, FP16),
        Precision(INT8, 1, INT8),  # W8A8
        Precision(FP8, 1, FP8),  # W8A8
        Precision("int4", 0.5 + 2 / 128, None),  # weights alone, a 16-bit scale for each 128
        Precision("nvfp4", 0.5 + 1 / 16, FP4),  # an 8-bit scale for each 16
    )
}
"""Known precisions by name; ``native`` is what the device computes in when nothing is quantised."""


@dataclass(frozen=True)
class Bound:
    """The least time of one part on one device.

    Args:
        part: Name of the part.
        flops: Floating-point operations of the part: twice its MACs.
        bytes: How many bytes the part reads.
        compute_s: Seconds that its operations take at the device's peak.
        memory_s: Seconds that its bytes take at the device's bandwidth.
    """

    part: str
    flops: int
    bytes: float
    compute_s: float
    memory_s: float

    @property
    def seconds(self) -> float:
        """Least time of the part, in seconds: the longer of computing and reading."""
        return max(self.compute_s, self.memory_s)

    @property
    def is_compute_bound(self) -> bool:
        """Whether multiplying takes longer than reading: then fewer tokens are less time."""
        return self.compute_s > self.memory_s


def supports(device: Device, precision: Precision) -> bool:
    """Return whether the device has the arithmetic of a precision."""
    return precision.arithmetic is None or precision.arithmetic in device.peaks


def bounds(parts: Iterable[Part], device: Device, precision: Precision) -> tuple[Bound, ...]:
    """Return the least time of each part on a device.

    Args:
        parts: Parts of a model at one budget of visual tokens.
        device: The machine that runs them.
        precision: How the weights of quantised parts are stored and multiplied; fp32 makes everything fp32.

    Raises:
        DeviceError: The device has no such arithmetic.
    """
    if not supports(device, precision):
        raise DeviceError(
            f"{device.name}: expected arithmetic that it has, {', '.join(device.peaks)}, found {precision.name}."
        )
    return tuple(_bound(part, device, precision) for part in parts)


def part_bytes(part: Part, device: Device, precision: Precision) -> float:
    """Return how many bytes a part reads, all passes."""
    value = _FLOAT_BYTES[_float(device, precision)]
    weight = value if precision.weight_bytes is None else precision.weight_bytes
    stored = weight if part.name in QUANTISED else value
    return part.passes * part.weights * stored + part.kv_values * value


def _bound(part: Part, device: Device, precision: Precision) -> Bound:
    plain = _float(device, precision)
    arithmetic = (precision.arithmetic or plain) if part.name in QUANTISED else plain
    flops, read = 2 * part.macs, part_bytes(part, device, precision)
    return Bound(part.name, flops, read, flops / device.peaks[arithmetic], read / device.bandwidth)


def _float(device: Device, precision: Precision) -> str:
    """What is not quantised is computed in."""
    return precision.arithmetic if precision.arithmetic in _FLOAT_BYTES else device.float_type
