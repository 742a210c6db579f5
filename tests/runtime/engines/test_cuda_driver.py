"""What the driver says of the GPU, and what is said where there is none."""

from __future__ import annotations

import ctypes
from typing import Any

import pytest

from saccade.proto.errors import EngineError
from saccade.runtime.engines import cuda_driver
from saccade.runtime.engines.cuda_driver import Gpu, find_gpu, why_no_gpu


class Driver:
    """A driver that has one Orin, as its C interface answers."""

    count, refuses = 1, ""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: 999 if name == self.refuses else 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802 - NVIDIA's name
        version._obj.value = 12060
        return 999 if self.refuses == "cuDriverGetVersion" else 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = self.count
        return 0

    def cuDeviceGetName(self, name: Any, room: int, device: Any) -> int:  # noqa: N802
        name.value = b"Orin"
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 7}[attribute]
        return 0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    driver = Driver()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: driver)
    return driver


def test_the_first_gpu_is_described(driver: Driver) -> None:
    assert find_gpu() == Gpu("Orin", (8, 7), 12060)
    assert find_gpu().target == "SM87"
    assert why_no_gpu() is None


def test_a_driver_without_a_gpu_is_said(driver: Driver) -> None:
    driver.count = 0
    assert "has no GPU" in str(why_no_gpu())


@pytest.mark.parametrize("name", ["cuInit", "cuDriverGetVersion", "cuDeviceGet"])
def test_what_the_driver_refuses_is_said(driver: Driver, name: str) -> None:
    driver.refuses = name
    with pytest.raises(EngineError, match=rf"refused {name} with status 999"):
        find_gpu()


def test_no_driver_is_said_with_what_to_install() -> None:
    with pytest.raises(
        EngineError, match=r"there is no CUDA driver .*install NVIDIA's driver, or choose another"
    ):
        find_gpu("libcuda-that-is-not-there.so.1")
    assert cuda_driver.DRIVER_LIBRARY == "libcuda.so.1"
