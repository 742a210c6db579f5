"""The first graph of a generating family: pictures and question in, the first token's logits and a filled cache out."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from saccade.export.families.base import PerceivingFamily
from saccade.export.families.generating import GeneratingModel
from saccade.export.steps.decoder_with_cuts import LayerKeys
from saccade.export.steps.kv_cache import KEYS, POSITIONS, VALUES
from saccade.export.steps.prompt_step import PromptStep
from saccade.policies.base import Behind, Carry, Place, TokenPolicy
from saccade.policies.kv.slots import EMPTY
from saccade.proto.errors import ExportError


@dataclass(frozen=True)
class CacheSpan:
    """Decoder layers whose caches are of one length: those between two cuts.

    Args:
        layers: Indices of the layers.
        prompt: Slots that the prompt fills, padding included.
        capacity: Slots in all, those for generated tokens included.
    """

    layers: range
    prompt: int
    capacity: int


class PrefillOutputs(NamedTuple):
    """What a prefill gives.

    Args:
        logits: Logits of the first token, float32 ``(batch, vocab_size)``.
        kept: int64 ``(batch, keep)``, original visual indices, ascending.
        fate: int64 ``(batch, tokens)``: for each visual token the original index of the survivor that carries it
            (itself if it was kept), -1 if it was dropped.
        cache: Keys, values and slot positions of every span, by name.
        carry: What the policy hands to the next prefill, by name.
    """

    logits: Tensor
    kept: Tensor
    fate: Tensor
    cache: Carry
    carry: Carry


class PrefillStep(PromptStep[GeneratingModel]):
    """The prompt at a fixed budget of visual tokens.

    Args:
        family: Model that answers.
        policy: Policy that selects visual tokens.
        keep: Budget of the profile, visual tokens.
        new_tokens: Words that may follow; so many slots are free behind the prompt.
        tells_fate: Say for every token what carries it; None = if the policy merges.

    Raises:
        ExportError: The policy asks for something that cannot be had where it acts.
    """

    def __init__(
        self,
        family: GeneratingModel,
        policy: TokenPolicy,
        keep: int,
        *,
        new_tokens: int,
        tells_fate: bool | None = None,
    ) -> None:
        super().__init__(family, policy, keep, tells_fate=tells_fate)
        self.new_tokens = new_tokens

    @classmethod
    def check_policy(cls, policy: TokenPolicy, family: PerceivingFamily) -> None:
        """Check that a policy can act on a prompt: nothing lasts from one prompt to the next, and no arm moves.

        Raises:
            ExportError: The policy asks for something that cannot be had.
        """
        if any(cut.behind is Behind.LAST_STEP for cut in policy.cuts):
            raise ExportError(
                f"policy {policy.name!r}: expected one that needs no keys of the last control step, found another; "
                "a generating family begins each prompt anew."
            )
        if policy.gate is not None:
            raise ExportError(
                f"policy {policy.name!r}: expected one that does not watch the arm's motion, found a gate on it; a "
                "generating family moves no arm: export with the option gated=false."
            )
        super().check_policy(policy, family)

    @property
    def spans(self) -> tuple[CacheSpan, ...]:
        """The decoder's layers, in runs of equal cache length."""
        layers, whole = self.family.decoder.config.layers, self.family.layout
        alive = {0: whole.visual}
        for cut, count in zip(self.policy.cuts, self.counts or (), strict=False):
            alive[cut.index if cut.place is Place.DECODER else 0] = count
        starts = [*sorted(alive), layers]
        return tuple(
            CacheSpan(range(first, end), tokens, tokens + self.new_tokens)
            for first, end in pairwise(starts)
            for tokens in (whole.with_visual(alive[first]).tokens,)
        )

    def forward(
        self,
        images: Tensor,
        token_ids: Tensor,
        attention_mask: Tensor,
        *others: Tensor,
    ) -> tuple[Tensor, ...]:
        """Run one prefill on flat tensors, as the graph does.

        Args:
            images: uint8 ``(batch, views, height, width, 3)``, RGB.
            token_ids: Text of the prompt, int64 ``(batch, max_text_tokens)``.
            attention_mask: bool ``(batch, tokens)``, True = valid.
            others: Tensors of ``task_inputs``, then of the carry.

        Returns:
            logits, kept, fate if it is told, the cache of every span, and the policy's next carry.
        """
        out = self.prefill(images, token_ids, attention_mask, others)
        fate = (out.fate,) if self.tells_fate else ()
        cache = (out.cache[name] for name in cache_names(self.spans))
        return out.logits, out.kept, *fate, *cache, *(out.carry[spec.name] for spec in self.carry_specs)

    def prefill(
        self, images: Tensor, token_ids: Tensor, attention_mask: Tensor, others: tuple[Tensor, ...]
    ) -> PrefillOutputs:
        """Run one prefill.

        Args:
            images: uint8 ``(batch, views, height, width, 3)``, RGB.
            token_ids: Text of the prompt, int64 ``(batch, max_text_tokens)``.
            attention_mask: bool ``(batch, tokens)``, True = valid.
            others: Tensors of ``task_inputs``, then of the carry.
        """
        prompt = self.read(images, token_ids, attention_mask, self.named(others))
        cache, survivors = filled_spans(self.spans, prompt.cached), prompt.survivors
        return PrefillOutputs(
            self.family.logits(prompt.state), survivors.last_kept, survivors.fate, cache, survivors.update()
        )


def cache_names(spans: Items[CacheSpan]) -> tuple[str, ...]:
    """Return the names of the cache tensors of all spans, in the order of the graphs' inputs and outputs."""
    return tuple(
        span_name(name, number) for number in range(len(spans)) for name in (KEYS, VALUES, POSITIONS)
    )


def span_name(name: str, number: int) -> str:
    """Return the name of a tensor of the ``number``-th span."""
    return f"{name}.{number}"


def filled_spans(spans: Items[CacheSpan], cached: Items[LayerKeys]) -> Carry:
    """Return caches that hold a prompt.

    A slot's position is the token's place in the prompt (its order); padding leaves its slot free, and the first tokens
    that are generated take such slots before those behind the prompt.

    Args:
        spans: Spans of layers, each with caches of one length.
        cached: Keys and values of each layer.
    """
    carry: Carry = {}
    for number, span in enumerate(spans):
        layers = [cached[layer] for layer in span.layers]
        rest = span.capacity - span.prompt
        sequence = layers[0].sequence
        order = sequence.positions if sequence.order is None else sequence.order
        slots = F.pad(torch.where(sequence.mask, order, EMPTY), (0, rest), value=EMPTY)
        heads = layers[0].keys.shape[1]
        for name, tensors in (
            (KEYS, [layer.keys for layer in layers]),
            (VALUES, [layer.values for layer in layers]),
        ):
            carry[span_name(name, number)] = F.pad(torch.stack(tensors, dim=1), (0, 0, 0, rest))
        carry[span_name(POSITIONS, number)] = slots[:, None, None].expand(-1, len(layers), heads, -1)
    return carry
