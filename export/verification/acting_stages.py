"""What our model of a family that acts computes on its way from an observation to a chunk of actions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saccade.export.control.frames import Recording, host_inputs
from saccade.export.families.autoregressive import AutoregressiveModel
from saccade.export.families.base import ActingFamily, StepKind
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.families.flow_family import FlowFamily
from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.export.families.sequence import TEXT, SequenceLayout
from saccade.export.steps.policy_checks import model_shape
from saccade.export.steps.selecting_module import initial_state
from saccade.export.steps.step_of import acting_step
from saccade.policies.registry import build_policy
from saccade.proto.tensor_names import ATTENTION_MASK, IMAGES, NOISE, PROPRIO, TOKEN_IDS

Arrays = dict[str, NDArray[Any]]


def named_inputs(recording: Recording, checkpoint: Checkpoint[ActingFamily]) -> list[dict[str, Tensor]]:
    """Return what the host gives the graph for each frame, by name, batch 1.

    Raises:
        ExportError: An instruction does not fit.
    """
    names = checkpoint.model.host_inputs
    return [dict(zip(names, frame, strict=True)) for frame in host_inputs(recording, checkpoint)]


def acting_stages(
    checkpoint: Checkpoint[ActingFamily], recording: Recording, inputs: list[dict[str, Tensor]]
) -> Arrays:
    """Run our model on every frame with all its visual tokens.

    Args:
        checkpoint: The checkpoint.
        recording: Frames, for their proprioception in physical units.
        inputs: What the host gives for each frame, see :func:`named_inputs`.

    Returns:
        What each stage gave, as ``FRAME/STAGE``.
    """
    model = checkpoint.model
    policy = build_policy("keep_all", {}, model_shape(model))
    step = acting_step(model, policy, model.grid.tokens)
    found: Arrays = {}
    with torch.inference_mode():
        for frame, named in enumerate(inputs):
            actions = step(*named.values(), *initial_state(step))[0][0].numpy()
            stages = {
                **host_stages(checkpoint, recording, named, frame),
                **dict(_inner_stages(model, named)),
                **action_stages(checkpoint, recording, actions, frame),
            }
            found |= {f"{frame}/{name}": value for name, value in stages.items()}
    return found


def host_stages(
    checkpoint: Checkpoint[ActingFamily], recording: Recording, named: Mapping[str, Tensor], frame: int
) -> Arrays:
    """Return what the host made of an observation: tokens of the prompt, normalised proprioception."""
    found = {"prompt tokens": named[TOKEN_IDS][0, : _text_length(checkpoint.model, named)].numpy()}
    if checkpoint.embodiment.proprio.dim:
        found["proprioception"] = checkpoint.statistics.proprio.normalise(recording.proprio[frame])
    return found


def action_stages(
    checkpoint: Checkpoint[ActingFamily], recording: Recording, actions: NDArray[np.float32], frame: int
) -> Arrays:
    """Return normalised actions ``(chunk, action_dim)``, and what the host makes of them in physical units."""
    physical = checkpoint.statistics.action.unnormalise(actions)
    relative = np.flatnonzero(checkpoint.embodiment.action.relative)
    physical[:, relative] += recording.proprio[frame][relative]
    return {"actions": actions, "actions in units": physical}


def _text_length(model: ActingFamily, named: Mapping[str, Tensor]) -> int:
    return int(SequenceLayout(model.segments).take(named[ATTENTION_MASK], TEXT).sum())


def _inner_stages(model: ActingFamily, named: Mapping[str, Tensor]) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield what towers, projector and decoder gave; batch axis left out."""
    pixels = model.fit(named[IMAGES][0].float()) / 255.0
    seen = [
        (pixels - torch.tensor(tower.config.pixel_mean)) / torch.tensor(tower.config.pixel_std)
        for tower in model.towers
    ]
    yield "pictures", torch.cat(seen, dim=-1).numpy()
    features = cast(Any, model).visual_tokens(named[IMAGES])
    yield "vision features", features[0].numpy()
    yield "projected tokens", model.embed_visual(features)[0].numpy()
    lengths = torch.tensor([_text_length(model, named)])
    inner: Mapping[StepKind, Callable[..., Iterator[tuple[str, NDArray[Any]]]]] = {
        StepKind.FLOW: _flow_stages,
        StepKind.SINGLE_PASS: _single_pass_stages,
        StepKind.AUTOREGRESSIVE: _autoregressive_stages,
    }
    yield from inner[model.step_kind](model, named, lengths)


def _flow_stages(
    model: FlowFamily, named: Mapping[str, Tensor], lengths: Tensor
) -> Iterator[tuple[str, NDArray[Any]]]:
    present = torch.ones(1, model.grid.views, dtype=torch.bool)
    mask, positions, _ = model.sequence_inputs(lengths, present)
    prefix = model.perceive(named[IMAGES], named[TOKEN_IDS], mask, positions, named.get(PROPRIO))
    yield "decoder input", prefix.hidden[mask].numpy()
    kept = [torch.stack([layer.key[0], layer.value[0]])[:, :, mask[0]] for layer in model.remember(prefix)]
    yield "decoder keys and values", torch.stack(kept).numpy()


def _single_pass_stages(
    model: OpenVlaOft, named: Mapping[str, Tensor], lengths: Tensor
) -> Iterator[tuple[str, NDArray[Any]]]:
    mask, positions = model.sequence_inputs(lengths)
    embedded = model.embed_observation(named[IMAGES], named[PROPRIO], named[TOKEN_IDS])
    yield "decoder input", embedded[mask].numpy()
    yield "decoder states", model.decoder(embedded, mask, positions)[mask].numpy()


def _autoregressive_stages(
    model: AutoregressiveModel, named: Mapping[str, Tensor], lengths: Tensor
) -> Iterator[tuple[str, NDArray[Any]]]:
    inputs = model.sequence_inputs(lengths)
    embedded = model.embed(model.embed_visual(model.visual_tokens(named[IMAGES])), named[TOKEN_IDS])
    yield "decoder input", embedded[inputs.mask].numpy()
    states = model.run(embedded, inputs)[inputs.mask]
    yield "decoder states", states.numpy()
    yield "logits", model.logits(states[-1]).numpy()


def noise_of(inputs: list[dict[str, Tensor]]) -> NDArray[np.float32] | None:
    """Return the noise of every frame, float32 ``(frames, chunk, width)``; None where actions are not drawn."""
    drawn = [named[NOISE][0].numpy() for named in inputs if NOISE in named]
    return np.stack(drawn) if drawn else None
