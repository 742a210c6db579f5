import numpy as np
import pytest

from saccade.proto.errors import TensorError
from saccade.proto.tensor_spec import TensorRole, TensorSpec

KEPT = TensorSpec("kept", "int64", (1, -1), ("batch", "keep"), "index", TensorRole.RESULT)


def test_the_keep_axis_is_resolved_by_the_profile() -> None:
    spec = KEPT.resolve(keep=50)
    assert (spec.shape, spec.nbytes) == ((1, 50), 400)
    spec.validate(spec.example(fill=3))


@pytest.mark.parametrize(
    "array", [np.zeros((1, 4), np.int32), np.zeros((4,), np.int64), np.zeros((1, 5), np.int64)]
)
def test_validate_tells_what_differs(array: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(TensorError, match=r"tensor 'kept': expected int64\[1, 4\] .* found"):
        KEPT.resolve(keep=4).validate(array)
