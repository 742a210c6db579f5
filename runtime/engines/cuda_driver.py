"""Is there an NVIDIA GPU here, and which? Asked of its driver, with no other library."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from saccade.proto.errors import EngineError

DRIVER_LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR = 75, 76
"""``CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`` and ``..._MINOR``."""
_NAME_BYTES = 256


@dataclass(frozen=True)
class Gpu:
    """The first GPU of this machine.

    Args:
        name: What its maker calls it, e.g. ``Orin``.
        compute_capability: Major and minor number, e.g. ``(8, 7)``.
        driver: Newest CUDA version that the driver runs, e.g. 12060 for 12.6.
    """

    name: str
    compute_capability: tuple[int, int]
    driver: int

    @property
    def target(self) -> str:
        """Its compute capability as builders spell it, e.g. ``SM87``."""
        return "SM{}{}".format(*self.compute_capability)


def find_gpu(library: str = DRIVER_LIBRARY) -> Gpu:
    """Return the first GPU.

    Args:
        library: The driver's library, a file name or a path.

    Raises:
        EngineError: There is no driver, or it has no GPU; the message says what to install.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError as error:
        raise EngineError(
            f"there is no CUDA driver ({error}): install NVIDIA's driver, or choose another --engine"
        ) from error
    version, device, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    numbers = (ctypes.c_int(), ctypes.c_int())
    _call(driver, "cuInit", 0)
    _call(driver, "cuDriverGetVersion", ctypes.byref(version))
    _call(driver, "cuDeviceGetCount", ctypes.byref(count))
    if not count.value:
        raise EngineError("the CUDA driver has no GPU: is one plugged in and allowed (CUDA_VISIBLE_DEVICES)?")
    _call(driver, "cuDeviceGet", ctypes.byref(device), 0)
    _call(driver, "cuDeviceGetName", name, _NAME_BYTES, device)
    for number, attribute in zip(numbers, (_MAJOR, _MINOR), strict=True):
        _call(driver, "cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
    return Gpu(name.value.decode(errors="replace"), (numbers[0].value, numbers[1].value), version.value)


def why_no_gpu() -> str | None:
    """Return why no GPU can be used on this machine, and what to do; None = there is one."""
    try:
        find_gpu()
    except EngineError as error:
        return error.message
    return None


def _call(driver: ctypes.CDLL, name: str, *arguments: object) -> None:
    status = getattr(driver, name)(*arguments)
    if status:
        raise EngineError(
            f"the CUDA driver refused {name} with status {status}: does `nvidia-smi` run, and is the driver as new as "
            "the kernel module?"
        )
