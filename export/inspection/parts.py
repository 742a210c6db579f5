"""What the parts of a model multiply and read, by formula, for every family; conventions as in accounting.

Everything is counted that our graphs compute: padding, keys that a mask hides, one row of the last layer where only one
is read. Constants are folded before: position tables, time embeddings, modulations; so is the frame axis of a still
picture's patches (Qwen-VL).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias, cast

from torch import nn

from saccade.export.accounting import decoder_layer_macs, parameters, products, tower_macs
from saccade.export.cut_plan import CutPlan, LayerTokens
from saccade.export.families.base import PerceivingFamily
from saccade.export.families.flow import FlowModel
from saccade.export.families.generating import GeneratingModel
from saccade.export.families.llava_next import LlavaNext
from saccade.export.families.llava_onevision import LlavaOnevision
from saccade.export.families.llava_tiled import TiledLlava
from saccade.export.families.openvla_oft import OpenVlaOft
from saccade.export.families.pi0 import Pi0
from saccade.export.families.qwen3_vl import Qwen3Vl
from saccade.export.families.qwen_vl import QwenVl
from saccade.export.families.sequence import ACTION
from saccade.export.families.smolvla import SmolVla
from saccade.export.inspection.flow_parts import flow_parts, state_part
from saccade.export.models.decoder import Decoder, DecoderConfig
from saccade.export.models.qwen_patches import QwenVisionConfig
from saccade.export.models.qwen_vision import QwenVisionTower
from saccade.policies.base import Place
from saccade.proto.roofline import ACTION_HEAD, DECODE, DECODER, LM_HEAD, PREFILL, PROJECTOR, VISION, Part
