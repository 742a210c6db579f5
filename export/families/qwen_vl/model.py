"""The model that Qwen2.5-VL and Qwen3-VL share: a tower, mergers, a decoder with positions in three axes.

    [fixed: what precedes, vision marks, timestamps] [visual: merged patches] [question, padded on its right]

*Deep stack* (Qwen3-VL): features of some tower blocks, each through a merger of its own, are added to the visual tokens
that the first decoder layers give, one layer for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from saccade.export.families.generating import GeneratingModel, RunDecoder, SequenceInputs
from saccade.export.families.prompt_layout import IMAGE, VISUAL_TOKEN, PromptLayout
from saccade.export.loading.key_rules import KeyRules, Renames
from saccade.export.loading.text_decoder import TextModel
from saccade.export.models.qwen_patches import QwenVisionConfig
from saccade.export.models.qwen_vision import PatchMerger, QwenVisionTower, TowerFeatures
from saccade.policies.base import Grid
from saccade.proto.errors import ExportError
from saccade.proto.picture_fit import FitMethod, PictureFit, Resample
from saccade.proto.video_spec import FrameSampling, VideoSpec


class VisualRun(NamedTuple):
    """Visual tokens that stand between two vision marks.

    Args:
        before: Token ids of the text before the first mark.
        times: Positions on the time axis, one for each clip; the same in all runs of a prompt.
    """

    before: tuple[int, ...]
    times: tuple[int, ...]


START, END = "<|vision_start|>", "<|vision_end|>"
"""Marks around every picture; the layout of a prompt has them, so its text need not."""
PLACEHOLDERS = tuple(f"{START}{pad}{END}" for pad in ("<|image_pad|>", "<|video_pad|>", IMAGE))
"""What chat templates write for a picture or video, and what a person may."""


@dataclass(frozen=True, kw_only=True)
class QwenVlConfig:
    """Everything that shapes weights and graph of a Qwen-VL model.

    Args:
        tower: Vision tower for the size that pictures are resized to, ``tower.picture_size``.
        text: The language model.
        views: Pictures, or videos, of one question.
        times: Positions of a :class:`VisualRun` on the time axis, one for each clip.
        prompt_layout: The prompt up to the question.
        camera: Height and width of pictures as they come, pixels.
        resample: How pictures are resized.
        frames_per_second: Frames a second of the videos.
    """

    tower: QwenVisionConfig
    text: TextModel
    views: int
    times: tuple[int, ...]
    prompt_layout: PromptLayout
    camera: tuple[int, int]
    resample: Resample
    frames_per_second: float

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the pictures, or the clips of the videos."""
        return Grid(self.views * self.tower.clips, self.tower.token_rows, self.tower.token_columns)

    @property
    def positions(self) -> tuple[tuple[int, ...], ...]:
        """Time, row and column of each token of the sequence in memory, see :func:`prompt_positions`."""
        places = prompt_positions(
            self.prompt_layout, self.times, self.tower.token_rows, self.tower.token_columns
        )
        return tuple(zip(*(places[place] for place in self.prompt_layout.order), strict=True))


def prompt_positions(
    layout: PromptLayout, times: Sequence[int], rows: int, columns: int
) -> list[tuple[int, int, int]]:
    """Return time, row and column of each token of a prompt and of the text that follows, as they stand.

    Text counts on along all axes; a run of visual tokens begins where text would go on, and text goes on one behind the
    farthest of its positions on any axis.

    Args:
        layout: The prompt up to the user's text.
        times: Positions on the time axis of the clips in a run of visual tokens, from 0.
        rows: Rows of visual tokens in a clip.
        columns: Columns of visual tokens in a clip.

    Source:
        Qwen2.5-VL's ``get_rope_index`` as it was published with the model. Deviation: transformers 5 looks at rows and
        columns only, which lets text begin inside a video that lasts longer than it is wide; up to that it agrees.
    """
    patches = [(time, row, column) for time in times for row in range(rows) for column in range(columns)]
    places: list[tuple[int, int, int]] = []
    start = 0
    while len(places) < len(layout.items):
        run = patches if layout.items[len(places)] == VISUAL_TOKEN else [(0, 0, 0)]
        places += [(start + time, start + row, start + column) for time, row, column in run]
        start += 1 + max(map(max, run))
    return places + [(place,) * 3 for place in range(start, start + layout.max_text_tokens)]


def qwen_key_rules(config: QwenVlConfig, mergers: Renames) -> KeyRules:
    """Return how stored weights come to our names, as the Hub has them and as transformers writes them.

    Args:
        config: Configuration of the model.
        mergers: Renames that bring the mergers to our names, from ``vision.``.
    """
    return KeyRules(
        rename=(
            (r"^(?:model\.)?visual\.", "vision."),
            *mergers,
            (r"^(?:model\.)?language_model\.(?:model\.)?(?!lm_head)", "decoder."),
            (r"^language_model\.lm_head\.", "lm_head."),
            (r"^model\.", "decoder."),
        ),
        ties={"lm_head.weight": "decoder.embed_tokens.weight"} if config.text.is_tied else {},
    )


class QwenVl(GeneratingModel):
    """Tower, mergers and decoder of a Qwen-VL model.

    Args:
        config: Configuration of the model.
    """

    def __init__(self, config: QwenVlConfig) -> None:
        super().__init__(config.text.decoder, config.prompt_layout)
        self.config = config
        self.positions = config.positions
        self.vision = QwenVisionTower(config.tower)
        tower = config.tower
        self.projector = PatchMerger(tower, tower.width)
        self.deep_projectors = nn.ModuleList(PatchMerger(tower, tower.token_width) for _ in tower.deep_blocks)

    @property
    def towers(self) -> tuple[QwenVisionTower, ...]:
        """The one tower."""
        return (self.vision,)

    @property
    def grid(self) -> Grid:
        """How visual tokens tile the pictures, or the clips of the videos."""
        return self.config.grid

    @property
    def keeps_patches(self) -> bool:
        """Whether visual tokens are the tower's patches: no, each is a square of them."""
        return False

    @property
    def views_are_pictures(self) -> bool:
        """Whether each view's tokens come from the patches of one picture: always, a view is a picture or a clip."""
        return True

    @property
    def projectors(self) -> tuple[nn.Module, ...]:
        """What brings one visual token to the decoder's width: the merger, and those of the deep stack."""
        return self.projector, *self.deep_projectors

    @property
    def folded_macs(self) -> int:
        """Resampling of a learned position table (Qwen3-VL), which the graph has as a constant."""
        tower = self.config.tower
        side, width = tower.position_side, tower.width
        return tower.rows * side * side * width + tower.rows * tower.columns * side * width if side else 0

    @property
    def first_position(self) -> int:
        """Rotary position of the first token of the question, on every axis."""
        return self.positions[0][self.layout.span("text").start]

    def features(self, images: Tensor) -> TowerFeatures:
        """Run the tower on pictures or frames.

        Args:
            images: uint8 ``(batch, pictures, height, width, 3)``, RGB, resized; pictures are views, or the frames of
                all videos.

        Returns:
            Features of the last and of the deep blocks, ``(batch, visual, token_width)`` each.
        """
        last, deep = self.vision(images.float().flatten(0, 1))
        shape = (images.shape[0], -1, self.config.tower.token_width)
        return TowerFeatures(last.reshape(shape), tuple(x.reshape(shape) for x in deep))

    def visual_tokens(self, images: Tensor) -> Tensor:
        """uint8 ``(batch, pictures, height, width, 3)`` -> last features ``(batch, visual, token_width)``."""
        return self.features(images).last

    def look(self, images: Tensor) -> tuple[Tensor, RunDecoder]:
        """Run the tower on uint8 ``(batch, pictures, height, width, 3)``.

        Returns:
            Visual tokens ``(batch, visual, width)``, and what runs the decoder with the deep features of the tower.
        """
        last, deep = self.features(images)
        return self.embed_visual(last), partial(self.run, deep=self.embed_deep(deep))

    def embed_visual(self, tower_tokens: Tensor) -> Tensor:
        """Merge tower features ``(batch, alive, token_width)`` to ``(batch, alive, width)``."""
        embedded: Tensor = self.projector(tower_tokens)
        return embedded

    def embed_deep(self, deep: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Merge ``TowerFeatures.deep``, ``(batch, alive, token_width)`` each, to ``(batch, alive, width)`` each."""
        return tuple(merge(x) for merge, x in zip(self.deep_projectors, deep, strict=True))

    def arrange_signal(self, signal: Tensor) -> Tensor:
        """Average ``(batch, patches, channels)``, as patches lie in the tower, to ``(batch, visual, channels)``."""
        tower = self.config.tower
        clips = signal.reshape(-1, tower.rows * tower.columns, signal.shape[-1])
        patches = self.vision.finish(clips).unflatten(-1, (tower.merge_size**2, -1))
        return patches.mean(dim=-2).reshape(signal.shape[0], -1, signal.shape[-1])

    def sequence_inputs(self, text_lengths: Tensor) -> SequenceInputs:
        """Return mask, positions ``(batch, 3, tokens)`` and order for texts of int64 ``(batch,)`` valid tokens."""
        inputs = super().sequence_inputs(text_lengths)
        positions = torch.tensor(self.positions, device=text_lengths.device)
        return inputs._replace(positions=positions * inputs.mask.unsqueeze(1))

    def run(self, embeddings: Tensor, inputs: SequenceInputs, deep: Sequence[Tensor] = ()) -> Tensor:
        """Run the whole decoder.

        Args:
            embeddings: Decoder input, ``(batch, tokens, width)``.
            inputs: Mask, positions and order of the same tokens.
            deep: Deep features of the visual tokens that ``embeddings`` has, ``(batch, alive, width)`` each, from
                :meth:`embed_deep`.

        Returns:
            Final states, ``(batch, tokens, width)``.

        Raises:
            ExportError: ``deep`` has not one entry for each merger of the deep stack.
        """
        if len(deep) != len(self.deep_projectors):
            raise ExportError(
                f"expected features of {len(self.deep_projectors)} tower blocks, found {len(deep)}; pass what "
                "embed_deep gives."
            )

        def deepen(index: int, hidden: Tensor) -> Tensor:
            if index >= len(deep):
                return hidden
            return self.layout.with_visual(deep[index].shape[1]).add_visual(hidden, deep[index])

        return self.decoder(embeddings, inputs.mask, inputs.positions, inputs.order, deepen)


def build(config: QwenVlConfig) -> QwenVl:
    """Return the model without its weights, on the meta device."""
    with torch.device("meta"):
        return QwenVl(config)


def chat_prompt(views: int, *, system: str | None) -> str:
    """Return a conversation's text around ``views`` pictures, as the published chat templates write it.

    Args:
        views: Pictures or videos; the vision marks around each come with it.
        system: What the system says; None = nothing.
    """
    opening = "" if system is None else f"<|im_start|>system\n{system}<|im_end|>\n"
    return f"{opening}<|im_start|>user\n{IMAGE * views}{{instruction}}<|im_end|>\n<|im_start|>assistant\n"


def video_spec(config: QwenVlConfig) -> VideoSpec:
    """Return which frames of a video are looked at: evenly spaced, at the rate that the prompt tells.

    Source:
        The Qwen2.5-VL video processor's sampling, where a video lasts as long as its frames at that rate. Deviation:
        Qwen3-VL's takes the last frame too, and so frames farther apart than that rate; here the times that are told
        are those of the frames.
    """
    return VideoSpec(config.tower.frames, FrameSampling.FROM_START, config.frames_per_second)


def picture_size(config: QwenVlConfig) -> tuple[int, int]:
    """Return height and width of the pictures that tokens are laid out for, pixels: the camera's."""
    return config.camera


def picture_fit(config: QwenVlConfig) -> PictureFit:
    """Return how the family's image processor resizes: to whole visual tokens, near the aspect, within its budget."""
    return PictureFit(FitMethod.NEAR_ASPECT, config.resample, size=config.tower.picture_size)
