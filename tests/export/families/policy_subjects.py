"""One tiny model of each family, of random weights, ready for a policy: what the table of policies is made from."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from saccade.export.families.base import PerceivingFamily
from saccade.export.families.deployment import Deployment
from saccade.export.families.prompts import read_prompted
from saccade.export.steps.prefill_step import PrefillStep
from saccade.export.steps.selecting_module import SelectingModule
from saccade.export.steps.step_of import acting_step
from saccade.policies.base import TokenPolicy
from tests.export import flow_models
from tests.export.answer import test_pipeline as test_answering
from tests.export.families import chat_checkpoints, qwen_published
from tests.export.families.llava import test_llava
from tests.export.families.openvla.test_model import BRIDGE, TEXT, ours
from tests.export.families.prismatic_reference import SIDE, Reference, write
from tests.export.families.published import pictures, save
from tests.export.families.qwen_vl import test_qwen2_5 as test_qwen2_5_vl
from tests.export.families.qwen_vl import test_qwen3 as test_qwen3_vl
from tests.export.policy_graphs import deep_model
from tests.export.samples import observation


@dataclass(frozen=True)
class Subject:
    """A model that a policy may be put into.

    Args:
        model: The family.
        build: Policy and budget to the module that is exported.
        given: What the host gives it for one observation.
    """

    model: PerceivingFamily
    build: Callable[[TokenPolicy, int], SelectingModule]
    given: tuple[Tensor, ...]


def _acting(model: Any, given: tuple[Tensor, ...]) -> Subject:
    return Subject(model, functools.partial(acting_step, model), given)


def _openvla(folder: Path) -> Subject:
    model = ours(write(Reference(seed=3), folder / "openvla", {"bridge": BRIDGE}))
    words = [11, 12, 13]
    padded = torch.tensor([[*words, *[0] * (TEXT - len(words))]])
    mask = model.sequence_inputs(torch.tensor([len(words)])).mask
    return _acting(model, (torch.from_numpy(pictures(1, SIDE, SIDE))[None], padded, mask))


def _flow(model: Any) -> Subject:
    given = dict(zip(_FLOW_INPUTS, flow_models.observed(model, lengths=(4,)), strict=True))
    return _acting(model, tuple(given[name] for name in model.host_inputs))


_FLOW_INPUTS = ("images", "proprio", "token_ids", "attention_mask", "position_ids", "noise")


def _answering(checkpoint: Path, **deployment: Any) -> Subject:
    prompted = read_prompted(checkpoint, replace(Deployment(max_text_tokens=16), **deployment))
    build = functools.partial(PrefillStep, prompted.model, new_tokens=2)
    return Subject(prompted.model, build, prompted.example())


def _llava(folder: Path) -> Path:
    save(test_llava.reference(), folder, test_llava.PROCESSOR)
    test_answering.write_tokenizer(folder)
    (folder / "generation_config.json").write_text('{"eos_token_id": 2, "pad_token_id": 0}')
    return folder


def _qwen(family: Any, folder: Path) -> Path:
    return qwen_published.publish(family.reference(), folder, family.PROCESSOR)


SUBJECTS: Mapping[str, Callable[[Path], Subject]] = {
    "OpenVLA-OFT": lambda folder: _acting(deep_model(), observation(deep_model())),
    "OpenVLA": _openvla,
    "π0": lambda folder: _flow(flow_models.tiny_pi0()),
    "π0.5": lambda folder: _flow(flow_models.tiny_pi05()),
    "SmolVLA": lambda folder: _flow(flow_models.tiny_smolvla()),
    "LLaVA-1.5": lambda folder: _answering(_llava(folder / "llava")),
    "LLaVA-NeXT": lambda folder: _answering(
        chat_checkpoints.write_next(folder / "next"), image_size=(33, 47)
    ),
    "LLaVA-OneVision": lambda folder: _answering(
        chat_checkpoints.write_onevision(folder / "one"), image_size=(40, 61)
    ),
    "LLaVA-Video": lambda folder: _answering(
        chat_checkpoints.write_onevision(folder / "video", most=1, newline="grid"), frames=4
    ),
    "Qwen2.5-VL": lambda folder: _answering(_qwen(test_qwen2_5_vl, folder / "qwen25"), image_size=(43, 27)),
    "Qwen3-VL": lambda folder: _answering(_qwen(test_qwen3_vl, folder / "qwen3"), image_size=(43, 27)),
}
"""Family to what makes its model, given a folder for the files that the real class writes."""


@functools.cache
def subject(family: str) -> Subject:
    """Return the model of a family, made once."""
    with TemporaryDirectory() as folder:
        return SUBJECTS[family](Path(folder))
