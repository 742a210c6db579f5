"""saccade-mini: its dimensions and its vocabulary."""

from __future__ import annotations

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from saccade.export.families.openvla_oft.config import OftConfig
from saccade.export.models.decoder import DecoderConfig
from saccade.export.models.vision_transformer import VisionConfig
from saccade.sim.tabletop import palette
from saccade.sim.tabletop.cameras import VIEWS
from saccade.sim.tabletop.tasks import DIRECTIONS
from saccade.sim.tabletop.world import ACTION_NAMES, PROPRIO_NAMES
from saccade.sim.training.demonstrations import CHUNK, IMAGE_PX, PATCH_PX

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
MAX_TEXT_TOKENS = 10
_WORDS = ("touch", "push", "put", "stack", "the", "block", "zone", "to", "in", "on")


def build_tokenizer() -> Tokenizer:
    """Return a tokenizer with one token for each word of an instruction; everything else is ``<unk>``."""
    words = [PAD, BOS, EOS, UNKNOWN, *_WORDS, *palette.BLOCK_COLOURS, *palette.ZONE_COLOURS, *DIRECTIONS]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=UNKNOWN)
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def build_config(tokenizer: Tokenizer) -> OftConfig:
    """Return the configuration of saccade-mini: 3.2 M parameters, two 120-pixel views, 200 visual tokens."""
    vocabulary = tokenizer.get_vocab()
    tower = VisionConfig(image_size=IMAGE_PX, patch_size=PATCH_PX, width=192, depth=4, heads=3, mlp_dim=512)
    decoder = DecoderConfig(
        width=160,
        layers=5,
        heads=5,
        kv_heads=5,
        head_dim=32,
        mlp_dim=432,
        vocab_size=len(vocabulary),
        causal=False,
    )
    return OftConfig(
        towers=(tower,),
        decoder=decoder,
        views=len(VIEWS),
        chunk=CHUNK,
        action_dim=len(ACTION_NAMES),
        proprio_dim=len(PROPRIO_NAMES),
        max_text_tokens=MAX_TEXT_TOKENS,
        bos_id=vocabulary[BOS],
        eos_id=vocabulary[EOS],
        pad_id=vocabulary[PAD],
    )
