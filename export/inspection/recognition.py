"""Which family a checkpoint belongs to, and its model without weights: configuration and headers of files alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from saccade.export.cost.vision_parts import Family
from saccade.export.families.deployment import Deployment
from saccade.export.families.embodiment import EMBODIMENT_NAME, read_embodiment
from saccade.export.families.openvla_oft import keys as openvla_oft_keys
from saccade.export.families.openvla_oft.config import FAMILY as OFT
from saccade.export.families.openvla_oft.config import config_from_json
from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.export.families.openvla_oft.published import read_published
from saccade.export.families.registry import GENERATING, stated_kind
from saccade.export.loading.json_fields import read_object
from saccade.export.loading.key_rules import KeyRules
from saccade.export.loading.lerobot_features import read_features
from saccade.export.loading.shards import StoredWeights
from saccade.export.loading.torch_heads import HeadedWeights
from saccade.export.loading.weights import plan_weights
from saccade.proto.errors import CheckpointError
from saccade.proto.inspection import InspectionRequest

_CONFIG = "config.json"
_MODULES: Mapping[str, str] = {
    **GENERATING,
    **{name: f"saccade.export.families.{name}" for name in ("openvla", "pi0", "pi05", "smolvla")},
}
"""Family to the module that reads it; OpenVLA-OFT has checkpoints of two kinds and is read below."""
_STATISTICS = ("dataset_statistics.json", "norm_stats")


@dataclass(frozen=True)
class Usual:
    """What is usual for a family where a checkpoint leaves it open.

    Args:
        views: Cameras, or pictures of one question; 0 = the checkpoint says it.
        text_tokens: Room for the instruction or question; 0 = the checkpoint says it.
        new_tokens: Of an answer.
        image_size: Height and width of the pictures as they come, pixels.
    """

    views: int
    text_tokens: int
    new_tokens: int = 1
    image_size: tuple[int, int] | None = None


_ANSWERING = Usual(views=1, text_tokens=64, new_tokens=64, image_size=(480, 640))
_ONE_TILE_EACH = ("llava_onevision", "llava_qwen")
"""Of several pictures, or of frames, these families take any size."""
_USUAL: Mapping[str, Usual] = {
    "llava": replace(_ANSWERING, image_size=None),
    OFT: Usual(views=2, text_tokens=32),
    "openvla": Usual(views=1, text_tokens=32, new_tokens=7),
    "pi0": Usual(views=3, text_tokens=48),
    "pi05": Usual(views=3, text_tokens=200),
    "smolvla": Usual(views=0, text_tokens=48),
}


@dataclass(frozen=True)
class Opened:
    """A checkpoint whose weights were not read.

    Args:
        family: Its name.
        model: On the meta device, before constants are folded.
        new_tokens: Of an answer.
        stored: The weight files; None = they were not looked at.
        assumed: What the checkpoint left open and was taken as usual, in words.
    """

    family: str
    model: Family
    new_tokens: int
    stored: StoredWeights | None
    assumed: tuple[str, ...]


def recognise(folder: Path) -> str:
    """Return the family of a checkpoint.

    Raises:
        CheckpointError: There is no ``config.json``, or it names no family that is known here.
    """
    kind = stated_kind(folder)
    if kind == OFT or kind in _MODULES:
        return str(kind)
    raise CheckpointError(
        f"{_CONFIG}: expected a 'model_type' or 'type' of {', '.join(sorted((OFT, *_MODULES)))}, found {kind!r}."
    )


def open_checkpoint(folder: Path, request: InspectionRequest) -> Opened:
    """Read a checkpoint up to its weights, and match their names and shapes with what the configuration wants.

    Raises:
        CheckpointError: Something is missing, left over or wrong.
        ExportError: The deployment does not fit the family.
    """
    family = recognise(folder)
    usual = _USUAL.get(family, _ANSWERING)
    if family == OFT:
        return _open_oft(folder, request, usual)
    module = import_module(_MODULES[family])
    deployment, assumed = _deployment(folder, family, request, usual)
    config = module.read_config(folder, deployment)
    model: Family = module.build(config)
    stored = (
        _matched(model, StoredWeights(folder), module.key_rules(config)) if request.reads_weights else None
    )
    dims = getattr(config, "action_dim", None) if family == "openvla" else None
    new_tokens = dims or request.new_tokens or usual.new_tokens
    if request.new_tokens is None and family in GENERATING:
        assumed = (*assumed, f"an answer of {new_tokens} tokens (--new-tokens)")
    return Opened(family, model, new_tokens, stored, assumed)


def _open_oft(folder: Path, request: InspectionRequest, usual: Usual) -> Opened:
    """Open either kind of OpenVLA-OFT: ours, which says everything, or the published one."""
    value = read_object(folder, _CONFIG)
    if value.get("model_type") == OFT:
        config, heads = config_from_json(value), None
        assumed: tuple[str, ...] = ()
    else:
        deployment, assumed = _deployment(folder, OFT, request, usual)
        chunk = None
        if (folder / EMBODIMENT_NAME).is_file():
            chunk = read_embodiment(folder).action.chunk
        with FakeTensorMode():  # the heads' files give names and shapes; their numbers stay on the disk
            published = read_published(folder, deployment, chunk=chunk)
        config, heads = published.config, published.heads
    with torch.device("meta"):
        model = OpenVlaOft(config)
    stored = None
    if request.reads_weights:
        weights = StoredWeights(folder) if heads is None else HeadedWeights(folder, heads)
        stored = _matched(model, weights, openvla_oft_keys.key_rules(config))
    return Opened(OFT, model, 1, stored, assumed)


def _matched(model: Family, stored: StoredWeights, rules: KeyRules) -> StoredWeights:
    """Return the weights if the model wants exactly those."""
    plan_weights({name: tuple(weight.shape) for name, weight in model.state_dict().items()}, stored, rules)
    return stored


def _deployment(
    folder: Path, family: str, request: InspectionRequest, usual: Usual
) -> tuple[Deployment, tuple[str, ...]]:
    """Return the deployment that was asked for or is usual, and what was taken as usual."""
    assumed = []
    views, text = request.views, request.text_tokens
    if views is None:
        views, known = _views(folder, family, usual)
        if not known:
            assumed.append(f"{views} view{'s' * (views != 1)} (--views)")
    if text is None:
        text = usual.text_tokens
        assumed.append(f"room for {text} tokens of text (--text-tokens)")
    size = request.image_size
    if size is None and not (family in _ONE_TILE_EACH and (views > 1 or request.frames)):
        size = usual.image_size
    if request.image_size is None and size is not None:
        assumed.append(f"pictures of {size[1]}x{size[0]} (--image-size)")
    data_set = request.data_set
    if data_set is None and family == "openvla":
        data_set = _first_data_set(folder)
    deployment = Deployment(
        views=views,
        frames=request.frames,
        image_size=size,
        max_text_tokens=text,
        statistics_key=data_set,
    )
    return deployment, tuple(assumed)


def _views(folder: Path, family: str, usual: Usual) -> tuple[int, bool]:
    """Return how many views there are, and whether the checkpoint says so."""
    if family == OFT and (folder / EMBODIMENT_NAME).is_file():
        return len(read_embodiment(folder).views), True
    is_lerobot = "input_features" in read_object(folder, _CONFIG)
    cameras = read_features(folder).cameras if is_lerobot else ()
    return (len(cameras), True) if cameras else (max(usual.views, 1), False)


def _first_data_set(folder: Path) -> str | None:
    """Return the first of several data sets: all that is asked of it is how many numbers an action has."""
    file, field = _STATISTICS
    sets = read_object(folder, file) if (folder / file).is_file() else read_object(folder, _CONFIG).get(field)
    return next(iter(sets), None) if isinstance(sets, Mapping) else None
