"""Machines and what they can do at most: dense peaks and memory bandwidth, each with where the numbers come from.

Peaks are without structured sparsity, which doubles what data sheets print in large letters, and without the separate
accelerators (DLA) that no engine of ours uses. Names of arithmetic: ``fp32 fp16 int8 fp8 fp4``; bf16 runs at fp16's
rate on all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from saccade.proto.errors import DeviceError

FP32, FP16, INT8, FP8, FP4 = "fp32", "fp16", "int8", "fp8", "fp4"
TERA, GIGA = 1e12, 1e9


@dataclass(frozen=True)
class Device:
    """A machine that bundles run on, as the roofline sees it.

    Args:
        name: Name that ``--device`` takes.
        label: Full name of the machine, for people.
        bandwidth: Bandwidth of the memory, bytes a second.
        peaks: Peak of each arithmetic by its name, dense FLOP (or integer operations) a second.
        float_type: Arithmetic that is used where nothing is quantised.
        source: Where the numbers come from, for people.
    """

    name: str
    label: str
    bandwidth: float
    peaks: Mapping[str, float]
    float_type: str
    source: str


DEVICES = (
    Device(
        "orin-nano",
        "Jetson Orin Nano 8 GB (Super)",
        102 * GIGA,
        {FP32: 2.09 * TERA, FP16: 16.7 * TERA, INT8: 33.4 * TERA},
        FP16,
        "NVIDIA Jetson Orin Nano Super data sheet (Dec 2024): 67 sparse int8 TOPS, 102 GB/s, 1020 MHz; dense int8 is "
        "half of that (8 SM x 4096 a cycle x 1.02 GHz), fp16 a quarter; fp32 is 1024 cores x 2 x 1.02 GHz",
    ),
    Device(
        "orin-nx",
        "Jetson Orin NX 16 GB",
        102.4 * GIGA,
        {FP32: 1.88 * TERA, FP16: 15.0 * TERA, INT8: 30.1 * TERA},
        FP16,
        "NVIDIA Jetson Orin NX data sheet: 102.4 GB/s, 918 MHz; its 100 sparse int8 TOPS include 40 of the DLA, the "
        "GPU's dense int8 is 8 SM x 4096 a cycle x 0.918 GHz, fp16 half of it",
    ),
    Device(
        "agx-orin",
        "Jetson AGX Orin 64 GB",
        204.8 * GIGA,
        {FP32: 5.3 * TERA, FP16: 42.5 * TERA, INT8: 85 * TERA},
        FP16,
        "NVIDIA Jetson AGX Orin technical brief v1.2: 204.8 GB/s; of 275 sparse int8 TOPS 170 are the GPU's, 85 dense; "
        "fp16 half of that; fp32 5.3 TFLOPS",
    ),
    Device(
        "agx-thor",
        "Jetson AGX Thor",
        273 * GIGA,
        {FP32: 8.0 * TERA, FP16: 259 * TERA, INT8: 517 * TERA, FP8: 517 * TERA, FP4: 1035 * TERA},
        FP16,
        "NVIDIA Jetson Thor data sheet: 273 GB/s, 2070 sparse fp4 TFLOPS = 1035 dense; fp8 half, fp16 a quarter "
        "(20 SM x 8192 a cycle x 1.57 GHz = 257); int8 taken as fp8; fp32 is 2560 cores x 2 x 1.57 GHz",
    ),
    Device(
        "rtx-4090",
        "GeForce RTX 4090",
        1008 * GIGA,
        {FP32: 82.6 * TERA, FP16: 165.2 * TERA, INT8: 660.6 * TERA, FP8: 330.3 * TERA},
        FP16,
        "NVIDIA Ada GPU architecture white paper, appendix A: dense tensor peaks with fp32 accumulation, 1008 GB/s",
    ),
    Device(
        "h100",
        "H100 SXM 80 GB",
        3350 * GIGA,
        {FP32: 67 * TERA, FP16: 989 * TERA, INT8: 1979 * TERA, FP8: 1979 * TERA},
        FP16,
        "NVIDIA H100 data sheet: 3.35 TB/s; tensor peaks there are with sparsity, halved here",
    ),
    Device(
        "h200",
        "H200 SXM 141 GB",
        4800 * GIGA,
        {FP32: 67 * TERA, FP16: 989 * TERA, INT8: 1979 * TERA, FP8: 1979 * TERA},
        FP16,
        "NVIDIA H200 data sheet: 4.8 TB/s; tensor peaks as H100",
    ),
    Device(
        "pi-5",
        "Raspberry Pi 5",
        17.1 * GIGA,
        {FP32: 0.154 * TERA},
        FP32,
        "Raspberry Pi 5 product brief: 4 Cortex-A76 at 2.4 GHz, 32-bit LPDDR4X-4267; Cortex-A76 optimisation guide: "
        "two 128-bit fused multiply-adds a cycle = 16 FLOP",
    ),
    Device(
        "cpu-2-cores",
        "2 x86 cores with AVX2",
        25.6 * GIGA,
        {FP32: 0.192 * TERA},
        FP32,
        "arithmetic, not a product: 2 cores x 3.0 GHz x two 256-bit fused multiply-adds a cycle (32 FLOP); one channel "
        "of DDR4-3200",
    ),
)
"""Known machines, from the smallest GPU to the largest, then CPUs."""


def find_device(name: str) -> Device:
    """Return a device by name.

    Args:
        name: Name that ``--device`` takes.

    Raises:
        DeviceError: No device has that name.
    """
    by_name = {device.name: device for device in DEVICES}
    if name not in by_name:
        near = get_close_matches(name, by_name, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise DeviceError(f"expected one of the devices {', '.join(by_name)}, found {name!r}{hint}")
    return by_name[name]
