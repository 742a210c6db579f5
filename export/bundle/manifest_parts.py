"""Parts that the manifests of all kinds of bundle have: producers, policy, task and carry tensors."""

from __future__ import annotations

from importlib.metadata import version

from saccade.policies.base import CarrySpec as PolicyCarrySpec
from saccade.policies.base import Grid, TokenPolicy
from saccade.proto.distribution import VERSION
from saccade.proto.policy_spec import CameraCutSpec, GateSpec, PolicySpec
from saccade.proto.tensor_spec import TensorRole, TensorSpec

_PRODUCERS = ("torch", "onnx", "onnxscript", "onnx-ir", "onnxruntime", "safetensors", "tokenizers")


def producers() -> dict[str, str]:
    """Return the version of each package that has a part in a bundle."""
    return {"saccade": VERSION} | {name: version(name) for name in _PRODUCERS}


def policy_spec(policy: TokenPolicy) -> PolicySpec:
    """Return what the manifest says of a policy."""
    gate, camera_cut = getattr(policy, "gate", None), getattr(policy, "camera_cut", None)
    return PolicySpec(
        policy.name,
        policy.config.as_dict(),
        policy.warmup_steps,
        policy.refresh_every,
        None if gate is None else GateSpec(gate.window, gate.look_back),
        None if camera_cut is None else CameraCutSpec(camera_cut.change),
    )


def task_tensor(name: str, grid: Grid) -> TensorSpec:
    """Return the spec of a tensor that the host sets once per task."""
    return TensorSpec(name, "float32", (1, grid.views), ("batch", "views"), "1", TensorRole.TASK)


def carry_tensor(spec: PolicyCarrySpec) -> TensorSpec:
    """Return the spec of a policy's carry."""
    return TensorSpec(spec.name, spec.dtype, spec.shape, spec.dims, "1", TensorRole.CARRY)
