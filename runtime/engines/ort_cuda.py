"""ONNX Runtime on an NVIDIA GPU: tensors and weights stay there, and a node that would run on the CPU is refused."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from saccade.proto.errors import EngineError
from saccade.runtime.engines.ort import OrtBackend

_PROVIDER = "CUDAExecutionProvider"


class OrtCudaBuffer:
    """A tensor on the GPU with a host side.

    Args:
        dtype: numpy name of the dtype, e.g. ``float32``.
        shape: Length of each axis.

    Raises:
        EngineError: There is no GPU, or it has no room.
    """

    def __init__(self, dtype: str, shape: tuple[int, ...]) -> None:
        self.host: NDArray[Any] = np.zeros(shape, dtype)
        try:
            self.value = ort.OrtValue.ortvalue_from_numpy(self.host, "cuda", 0)
        except Exception as error:
            raise EngineError(f"expected room for {dtype}{list(shape)} on the GPU, found: {error}") from error

    def to_device(self) -> None:
        """Copy ``host`` to the GPU."""
        self.value.update_inplace(self.host)

    def to_host(self) -> None:
        """Copy the tensor to ``host``."""
        np.copyto(self.host, self.value.numpy())


class OrtCudaBackend(OrtBackend):
    """The ``ort-cuda`` backend.

    Args:
        threads: Threads that launch; 0 = one for each core that this process may use.
        prepack: Must be True: the weights of each graph are copied to the GPU.

    Raises:
        InputError: More threads than are of any use.
        EngineError: Graphs are to share one copy of the weights.
    """

    name = "ort-cuda"
    provider: ClassVar[str] = _PROVIDER
    shares_tables: ClassVar[bool] = False

    def __init__(self, *, threads: int = 0, prepack: bool = True) -> None:
        if not prepack:
            raise EngineError(
                "expected the engine ort-cuda to keep a copy of the weights for each profile, as it always does, found "
                "--lean: leave it out, or take --engine ort-cpu."
            )
        super().__init__(threads=threads)

    def allocate(self, dtype: str, shape: tuple[int, ...]) -> OrtCudaBuffer:
        """Return a new buffer filled with zeros, on the GPU.

        Args:
            dtype: numpy name of the dtype, e.g. ``float32``.
            shape: Length of each axis.
        """
        return OrtCudaBuffer(dtype, shape)

    def _session_options(self) -> ort.SessionOptions:
        options = super()._session_options()
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        return options
