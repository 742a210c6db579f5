"""OpenVLA and OpenVLA-OFT of timm's towers and transformers' Llama, joined as the published code joins them.

Their classes are no part of a library: a checkpoint brings them as code, and code out of a checkpoint is not run here.

Source:
    ``modeling_prismatic.py`` and ``processing_prismatic.py`` of openvla/openvla c8f03f4 and moojink/openvla-oft
    213c5ff, ``action_heads.py``, ``projectors.py`` and ``constants.py`` of the latter, written down again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from .prismatic_pictures import crop_centre, stretch
from .stages import Stages, pixels_last

BOS, EOS, SPACE = 1, 2, 29871
"""Llama's tokens; the lone space stood between prompt and actions in training."""
ALOHA = 14
"""Numbers of an action, of the robot whose statistics are the smallest and largest values instead of percentiles."""
_POOL = "attn_pool."
"""Weights that nothing runs: patches are read before they are pooled."""
_PLACES = ("featurizer", "fused_featurizer")


def run(request: Mapping[str, Any], given: Mapping[str, NDArray[Any]], stages: Stages) -> str:
    """Run the model of a checkpoint.

    Args:
        request: ``checkpoint``, ``family``, ``tokenizer`` (a folder), ``template``, ``instructions``, ``data_set``,
            ``chunk``, ``action_dim``, ``crop`` (share of a picture's area) and ``head_step`` (or None).
        given: ``images`` uint8 ``(frames, cameras, height, width, 3)``, ``proprio`` float32 ``(frames, numbers)``.
        stages: Told of every stage.

    Returns:
        What it is composed of.
    """
    folder = Path(request["checkpoint"])
    model = _Prismatic(folder)
    oft = _Oft(folder, request["head_step"]) if request["family"] == "openvla_oft" else None
    tokenizer = Tokenizer.from_file(str(Path(request["tokenizer"]) / "tokenizer.json"))
    statistics = _statistics(folder)[request["data_set"]]
    for frame, instruction in enumerate(request["instructions"]):
        stages.frame = frame
        ids = _prompt(tokenizer, request["template"], instruction)
        stages.put("prompt tokens", np.array(ids))
        square = stretch(given["images"][frame], model.side, as_oft=oft is not None)
        visual = model.visual(crop_centre(square, request["crop"]), stages)
        if oft is None:
            _act_token_by_token(model, visual, ids, request["action_dim"], statistics, stages)
        else:
            state = _normalised(given["proprio"][frame], statistics["proprio"], *oft.bounds)
            stages.put("proprioception", state)
            oft.act(model, visual, torch.from_numpy(state)[None], ids, request["chunk"], statistics, stages)
    return "timm's towers and transformers' LlamaForCausalLM, joined as modeling_prismatic.py joins them"


class _Prismatic:
    """Towers, projector and language model of a checkpoint, float32.

    Args:
        folder: The checkpoint.
    """

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        processor = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        weights = {
            name: weight.float()
            for path in sorted(folder.glob("*.safetensors"))
            for name, weight in load_file(path).items()
        }
        self.scales = [(each["mean"], each["std"]) for each in processor["tvf_normalize_params"]]
        self.side = config["image_sizes"][0]
        sizes = config.get("vision_towers") or [{}] * len(config["timm_model_ids"])
        self.towers = [
            _tower(name, side, size, _under(weights, f"vision_backbone.{place}."))
            for name, side, size, place in zip(
                config["timm_model_ids"], config["image_sizes"], sizes, _PLACES[: len(sizes)], strict=True
            )
        ]
        self.projector = _under(weights, "projector.")
        text = {name: value for name, value in config["text_config"].items() if name != "model_type"}
        self.llama = _llama(LlamaConfig(**text), _under(weights, "language_model."))
        self.tokens_end = config["text_config"]["vocab_size"] - config.get("pad_to_multiple_of", 64)
        self.bins = config.get("n_action_bins", 256)

    def visual(self, images: NDArray[np.uint8], stages: Stages) -> Tensor:
        """uint8 ``(cameras, height, width, 3)`` -> projected patches ``(1, cameras * patches, width)``."""
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0
        seen, features = [], []
        for (mean, std), tower in zip(self.scales, self.towers, strict=True):
            seen.append((pixels - _channels(mean)) / _channels(std))
            features.append(tower.get_intermediate_layers(seen[-1], n={len(tower.blocks) - 2})[0])
        stages.put("pictures", pixels_last(torch.cat(seen, dim=1)))
        x = torch.cat(features, dim=-1).flatten(0, 1)
        stages.put("vision features", x)
        for number in range(1, len(self.projector) // 2 + 1):
            x = functional.gelu(x) if number > 1 else x
            x = functional.linear(x, self.projector[f"fc{number}.weight"], self.projector[f"fc{number}.bias"])
        stages.put("projected tokens", x)
        return x[None]

    def embedded(self, ids: list[int]) -> Tensor:
        """Token ids -> ``(1, tokens, width)``."""
        found: Tensor = self.llama.model.embed_tokens(torch.tensor([ids]))
        return found


def _act_token_by_token(
    model: _Prismatic, visual: Tensor, ids: list[int], dim: int, statistics: dict[str, Any], stages: Stages
) -> None:
    embedded = torch.cat([model.embedded([BOS]), visual, model.embedded(ids)], dim=1)
    stages.put("decoder input", embedded[0])
    tokens: list[int] = []
    while len(tokens) < dim:
        said = model.llama(inputs_embeds=embedded, output_hidden_states=True)
        if not tokens:
            stages.put("decoder states", said.hidden_states[-1][0])
            stages.put("logits", said.logits[0, -1])
        tokens.append(int(said.logits[0, -1].argmax()))
        embedded = torch.cat([embedded, model.embedded(tokens[-1:])], dim=1)
    edges = np.linspace(-1, 1, model.bins)
    centres = (edges[:-1] + edges[1:]) / 2
    places = np.clip(model.tokens_end - np.array(tokens) - 1, 0, len(centres) - 1)
    actions = centres[places].astype(np.float32)[None]
    stages.put("actions", actions)
    stages.put("actions in units", _physical(actions, statistics["action"], "q01", "q99"))


class _Oft:
    """What OpenVLA-OFT adds: an action head and a projector of proprioception.

    Args:
        folder: The checkpoint.
        step: Training step of the heads; None = the only one.
    """

    def __init__(self, folder: Path, step: str | None) -> None:
        self.head = _head(folder, "action_head", step)
        self.proprio = _head(folder, "proprio_projector", step)
        self.dim = len(self.head["model.fc2.bias"])
        self.bounds = ("min", "max") if self.dim == ALOHA else ("q01", "q99")

    def act(
        self,
        model: _Prismatic,
        visual: Tensor,
        state: Tensor,
        ids: list[int],
        chunk: int,
        statistics: dict[str, Any],
        stages: Stages,
    ) -> None:
        """Run one pass in which every token sees every token."""
        told = self._linear(self.proprio, "fc2", functional.gelu(self._linear(self.proprio, "fc1", state)))
        answer = chunk * self.dim
        parts = [model.embedded([BOS]), visual, told[:, None], model.embedded(ids)]
        first = sum(part.shape[1] for part in parts) - 1
        embedded = torch.cat([*parts, torch.zeros(1, answer, told.shape[1]), model.embedded([EOS])], dim=1)
        stages.put("decoder input", embedded[0])
        everything = torch.zeros(1, 1, embedded.shape[1], embedded.shape[1])
        states = model.llama.model(inputs_embeds=embedded, attention_mask=everything).last_hidden_state
        stages.put("decoder states", states[0])
        actions = self._read(states[:, first : first + answer].reshape(1, chunk, -1))[0].numpy()
        stages.put("actions", actions)
        stages.put("actions in units", _physical(actions, statistics["action"], *self.bounds))

    def _read(self, x: Tensor) -> Tensor:
        head = self.head
        x = functional.relu(self._linear(head, "model.fc1", self._norm("model.layer_norm1", x)))
        for block in range(sum(name.endswith("ffn.1.bias") for name in head)):
            place = f"model.mlp_resnet_blocks.{block}.ffn"
            x = functional.relu(self._linear(head, f"{place}.1", self._norm(f"{place}.0", x))) + x
        return self._linear(head, "model.fc2", self._norm("model.layer_norm2", x))

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self.head[f"{name}.weight"], self.head[f"{name}.bias"])

    @staticmethod
    def _linear(weights: Mapping[str, Tensor], name: str, x: Tensor) -> Tensor:
        return functional.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _tower(name: str, side: int, size: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Any:
    """Return a tower of timm; ``size`` has what differs from what its name says, where blocks are few and narrow."""
    names = {"patch_size": "patch_size", "width": "embed_dim", "depth": "depth", "heads": "num_heads"}
    changes = {theirs: size[ours] for ours, theirs in names.items() if ours in size}
    if "mlp_dim" in size:
        changes["mlp_ratio"] = size["mlp_dim"] / size["width"]
    tower: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, img_size=side, **changes)
    # The published code renames layer scales, whose name transformers replaced as it loaded them.
    named = {key.replace(".scale_factor", ".gamma"): weight for key, weight in weights.items()}
    missing, unexpected = tower.load_state_dict(named, strict=False)
    wrong = [key for key in (*missing, *unexpected) if not key.startswith(_POOL)]
    if wrong:
        raise ValueError(f"timm {timm.__version__}: {name} and the checkpoint differ in {', '.join(wrong)}")
    return tower.eval()


def _llama(config: Any, weights: Mapping[str, Tensor]) -> Any:
    """Return the language model, which takes the weights as they are: there is no second copy of them."""
    with torch.device("meta"):
        llama: Any = LlamaForCausalLM(config)
    llama.load_state_dict(weights, assign=True, strict=not config.tie_word_embeddings)
    llama.tie_weights()
    llama.model.rotary_emb = type(llama.model.rotary_emb)(config)
    return llama.eval()


def _under(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}


def _head(folder: Path, name: str, step: str | None) -> dict[str, Tensor]:
    (path,) = folder.glob(f"{name}--{step or '*'}_checkpoint.pt")
    stored: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return {key.removeprefix("module."): weight.float() for key, weight in stored.items()}


def _statistics(folder: Path) -> dict[str, Any]:
    path = folder / "dataset_statistics.json"
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return dict(config["norm_stats"])


def _prompt(tokenizer: Tokenizer, template: str, instruction: str) -> list[int]:
    """Return the tokens behind the pictures: the prompt, and the lone space that generation adds where it is not."""
    text = template.replace("{instruction}", instruction.strip().lower()).rstrip(" ")
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids if ids[-1] == SPACE else [*ids, SPACE]


def _channels(values: list[float]) -> Tensor:
    return torch.tensor(values)[:, None, None]


def _normalised(
    state: NDArray[np.float32], stats: Mapping[str, Any], low: str, high: str
) -> NDArray[np.float32]:
    """``normalize_proprio`` of the published evaluation."""
    least, most = np.array(stats[low]), np.array(stats[high])
    scaled = np.clip(2 * (state - least) / (most - least + 1e-8) - 1, -1.0, 1.0)
    return np.where(stats.get("mask", np.ones_like(least, dtype=bool)), scaled, state).astype(np.float32)


def _physical(
    actions: NDArray[np.float32], stats: Mapping[str, Any], low: str, high: str
) -> NDArray[np.float32]:
    """``_unnormalize_actions`` of the published class."""
    least, most = np.array(stats[low]), np.array(stats[high])
    mask = np.array(stats.get("mask", np.ones_like(least, dtype=bool)))
    return np.where(mask, 0.5 * (actions + 1) * (most - least + 1e-8) + least, actions).astype(np.float32)
