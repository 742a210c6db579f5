import numpy as np

from saccade.runtime.control.arm import Frame


def test_a_frame_is_a_value() -> None:
    frame = Frame({"scene": np.zeros((2, 2, 3), np.uint8)}, np.zeros(2, np.float32), 7)
    assert frame.captured_ns == 7 and frame.images["scene"].shape == (2, 2, 3)
