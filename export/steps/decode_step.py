"""One decode step of a generating model with a KV cache of fixed capacity and a policy over its entries.

The token's key and value are written into a free slot, then it attends: to the whole cache, after which an eviction
policy frees slots, or to the slots that a selection policy chose for it. Shapes never change, so one graph serves
every step; what is in the cache is told by the positions of its slots, and the host only carries tensors from output to
input.

Attention is written for the one query: the query heads of a key-value head are the rows of one matrix product, so the
cache is never repeated per head and a policy reads attention at no cost.

Source:
    Decoding as in transformers' ``LlamaModel`` with a cache; positions kept explicitly, as token dropping needs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from saccade.export.models.decoder import MASKED_LOGIT, Decoder, DecoderConfig, DecoderLayer, Rotary
from saccade.export.steps.kv_cache import LayerCache, cache_specs, stacked
from saccade.policies.base import Carry, CarrySpec
from saccade.policies.kv.base import (
    EvictionPolicy,
    KeyPositions,
    KvInputs,
    KvPolicy,
    KvShape,
    KvSignal,
    QueryHeads,
    QuerySelectionPolicy,
    SlotAttention,
    SlotLogits,
    stacked_specs,
)
from saccade.policies.kv.slots import slot_ranks, used, valid_slots
from saccade.proto.errors import ExportError


def kv_shape(config: DecoderConfig, capacity: int) -> KvShape:
    """Return what a KV policy may know of a decoder with a cache of ``capacity`` slots."""
    return KvShape(config.layers, config.heads, config.kv_heads, config.head_dim, capacity)


class _Token(NamedTuple):
    """Position of each robot's current token.

    Args:
        position: Place of the token in the sequence, int64 ``(batch,)``; ``EMPTY`` = this robot has no token.
        rotary: Rotary tables of the token.
    """

    position: Tensor
    rotary: Rotary


class _Attention(NamedTuple):
    """Attention of one token.

    Args:
        heads: What each head gave, ``(batch, kv_heads, group, head_dim)``.
        logits: float32 ``(batch, kv_heads, group, keys)``, scaled, not masked.
        weights: Attention after mask and softmax, float32 ``(batch, kv_heads, group, keys)``.
    """

    heads: Tensor
    logits: Tensor
    weights: Tensor


class DecodeStep(nn.Module):
    """Decoder, cache and policy for one token of each robot.

    Args:
        decoder: Decoder of the model, causal.
        policy: KV policy that is built for ``kv_shape(decoder.config, capacity)``, with as many layers as ``layers``
            has.
        layers: The decoder's layers that run here; None = all. The final norm comes after the decoder's last one.

    Raises:
        ExportError: The decoder is not causal, or the policy was built for another shape or wants what does not exist.
    """

    def __init__(self, decoder: Decoder, policy: KvPolicy, layers: range | None = None) -> None:
        super().__init__()
        self.layers = range(decoder.config.layers) if layers is None else layers
        check_kv_policy(replace(decoder.config, layers=len(self.layers)), policy)
        self.decoder, self.policy, self.shape = decoder, policy, policy.shape
        self.renumbers = policy.positions is KeyPositions.SLOTS

    @property
    def carry_specs(self) -> tuple[CarrySpec, ...]:
        """The cache, then the policy's carry: what the graph takes and gives, in order."""
        dtype = str(self.decoder.embed_tokens.weight.dtype).removeprefix("torch.")
        return (*cache_specs(self.shape, dtype), *stacked_specs(self.policy))

    def initial_carry(self, batch: int = 1) -> Carry:
        """Return an empty cache and the policy's carry after a reset."""
        return {
            spec.name: torch.full((batch, *spec.shape[1:]), spec.initial, dtype=getattr(torch, spec.dtype))
            for spec in self.carry_specs
        }

    def forward(self, embeddings: Tensor, position_ids: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Run one step on flat tensors, as the graph does.

        Args:
            embeddings: Embedding of the token, ``(batch, 1, width)``.
            position_ids: Rotary position of the token, int64 ``(batch, 1)``. ``EMPTY`` (-1): this robot has no token
                now. Its row of the result is meaningless; what its cache holds and its policy remembers stays. A slot
                must be free.
            state: Tensors of the carry, in the order of ``carry_specs``.

        Returns:
            The token's hidden state after the final norm, ``(batch, 1, width)``, and the next carry.
        """
        names = [spec.name for spec in self.carry_specs]
        hidden, carry = self.step(embeddings, position_ids, dict(zip(names, state, strict=True)))
        return hidden, *(carry[name] for name in names)

    def step(
        self, embeddings: Tensor, position_ids: Tensor, carry: Carry, offset: int = 0
    ) -> tuple[Tensor, Carry]:
        """Run one step, with the carry by name.

        Args:
            embeddings: Embedding of the token, ``(batch, 1, width)``.
            position_ids: Rotary position of the token, int64 ``(batch, 1)``; ``EMPTY`` (-1): this robot has no token
                now.
            carry: The cache and what the policy remembers, by the names of ``carry_specs``.
            offset: How far a token's place in the sequence lies behind its rotary position, where the two differ.

        Returns:
            The token's hidden state after the last of the layers, ``(batch, 1, width)``, normed if that is the
                decoder's
            last one; and the next carry.
        """
        place = position_ids[:, 0]
        if offset:
            place = torch.where(place >= 0, place + offset, place)
        token = _Token(place, self.decoder.rotary(position_ids))
        hidden = embeddings
        caches: list[LayerCache] = []
        notes: list[Carry] = []
        for number in range(self.shape.layers):
            own = {spec.name: carry[spec.name][:, number] for spec in self.policy.carry_specs()}
            hidden, cache, note = self._layer(number, hidden, token, LayerCache.of(carry, number), own)
            caches.append(cache)
            notes.append(note)
        following = {name: torch.stack([note[name] for note in notes], dim=1) for name in notes[0]}
        is_last = self.layers.stop == self.decoder.config.layers
        return self.decoder.norm(hidden) if is_last else hidden, {**stacked(caches), **following}

    def _layer(
        self, number: int, hidden: Tensor, token: _Token, cache: LayerCache, carry: Carry
    ) -> tuple[Tensor, LayerCache, Carry]:
        """Run one decoder layer on the token; return its hidden state, the layer's cache and the policy's carry."""
        layer = self.decoder.layers[self.layers[number]]
        assert isinstance(layer, DecoderLayer)  # noqa: S101 - a ModuleList tells no types
        normed, attention = layer.input_layernorm(hidden), layer.self_attn
        shape = (hidden.shape[0], self.shape.kv_heads, self.shape.group, self.shape.head_dim)
        query, key = attention.queries(normed).reshape(shape), attention.keys(normed)
        cache = cache.write(
            key if self.renumbers else token.rotary.apply(key), attention.values(normed), token.position
        )
        if isinstance(self.policy, EvictionPolicy):
            heads, cache, noted = self._attend_then_evict(number, query, token, cache, carry)
        else:
            heads, noted = self._select_then_attend(number, query, token, cache, carry)
        hidden = hidden + attention.o_proj(heads.flatten(1).unsqueeze(1))
        kept = {name: _where_active(token, tensor, carry[name]) for name, tensor in noted.items()}
        return hidden + layer.mlp(layer.post_attention_layernorm(hidden)), cache, kept

    def _attend_then_evict(
        self, number: int, query: Tensor, token: _Token, cache: LayerCache, carry: Carry
    ) -> tuple[Tensor, LayerCache, Carry]:
        """Attend to the whole cache, then free what the policy gives up."""
        assert isinstance(self.policy, EvictionPolicy)  # noqa: S101 - the caller asked
        keys, valid = cache.keys, valid_slots(cache.positions)
        if self.renumbers:
            newest = used(cache.positions).long() - 1
            keys = self._rotary(slot_ranks(cache.positions)).apply(keys)
            attention = attend(self._rotary(newest).apply(query), keys, cache.values, valid)
        else:
            attention = attend(token.rotary.apply(query), keys, cache.values, valid)
        signals = tuple(
            self._signal(request, query, cache, attention.logits, attention.weights)
            for request in self.policy.signals
        )
        inputs = KvInputs(number, signals, cache.positions, token.position)
        eviction = self.policy.evict(inputs, carry)
        active = (token.position >= 0)[:, None, None]
        return attention.heads, cache.free(eviction.evicted & active), eviction.carry

    def _select_then_attend(
        self, number: int, query: Tensor, token: _Token, cache: LayerCache, carry: Carry
    ) -> tuple[Tensor, Carry]:
        """Let the policy choose slots and attend to those."""
        assert isinstance(self.policy, QuerySelectionPolicy)  # noqa: S101 - the caller asked
        rotated = query if self.renumbers else token.rotary.apply(query)
        signals: tuple[Tensor, ...] = ()
        if self.policy.signals:
            logits = scaled_logits(rotated, cache.keys)
            signals = tuple(
                self._signal(request, query, cache, logits, None) for request in self.policy.signals
            )
        attended = self.policy.attend(KvInputs(number, signals, cache.positions, token.position), carry)
        keys, values, chosen = cache.keys, cache.values, attended.chosen
        if self.policy.attended < self.shape.capacity:
            index = attended.slots[:, None, :, None].expand(-1, keys.shape[1], -1, keys.shape[3])
            keys, values = torch.gather(keys, 2, index), torch.gather(values, 2, index)
        if self.renumbers:
            # Slots are in the order of positions here, and fillers come last.
            order = torch.arange(self.policy.attended, device=chosen.device)[None, None]
            newest = chosen.float().sum(dim=1)[:, None, None].long() - 1
            keys, rotated = self._rotary(order).apply(keys), self._rotary(newest).apply(query)
        return attend(rotated, keys, values, chosen.unsqueeze(1)).heads, attended.carry

    def _signal(
        self, request: KvSignal, query: Tensor, cache: LayerCache, logits: Tensor, weights: Tensor | None
    ) -> Tensor:
        """Return one signal, float32."""
        if isinstance(request, QueryHeads):
            return query.float()
        if isinstance(request, SlotAttention):
            assert weights is not None  # noqa: S101 - check_kv_policy
            return weights
        if request.distance is None:
            return logits
        distance = torch.full((1, 1, 1), request.distance, device=query.device)
        return scaled_logits(self._rotary(distance).apply(query), cache.keys)

    def _rotary(self, positions: Tensor) -> Rotary:
        """Return the tables of positions that differ from head to head, int64 ``(batch, kv_heads, tokens)``."""
        tables = self.decoder.rotary(positions.flatten(0, 1))
        return Rotary(*(table.reshape(*positions.shape, -1) for table in tables))


def check_kv_policy(config: DecoderConfig, policy: KvPolicy) -> None:
    """Raise unless the policy fits the decoder.

    Raises:
        ExportError: The decoder is not causal, or the policy was built for another shape or wants what does not exist.
    """
    if not config.causal:
        raise ExportError(
            "expected a causal decoder: where tokens see later ones, a cached key is not final; found causal=False."
        )
    wanted = kv_shape(config, policy.shape.capacity)
    if policy.shape != wanted:
        raise ExportError(
            f"expected KV policy {policy.name!r} to be built for {wanted}, found {policy.shape}."
        )
    if not isinstance(policy, EvictionPolicy | QuerySelectionPolicy):
        raise ExportError(
            f"expected KV policy {policy.name!r} to be an EvictionPolicy or a QuerySelectionPolicy, found "
            f"{type(policy).__name__}."
        )
    renumbers, selects = policy.positions is KeyPositions.SLOTS, isinstance(policy, QuerySelectionPolicy)
    for request in policy.signals:
        missing = None
        if isinstance(request, SlotAttention) and selects:
            missing = "attention is not known before a choice is made"
        elif isinstance(request, SlotLogits) and request.distance is not None and not renumbers:
            missing = "keys that are cached rotated stand where they stand; it goes with positions 'slots'"
        elif isinstance(request, SlotLogits) and request.distance is None and renumbers and selects:
            missing = "before a choice is made keys have no number; ask for a distance"
        if missing is not None:
            raise ExportError(
                f"KV policy {policy.name!r} asks for {request}, found no such signal: {missing}."
            )


def scaled_logits(query: Tensor, keys: Tensor) -> Tensor:
    """Return ``query . key / sqrt(head_dim)``, float32 ``(batch, kv_heads, group, keys)``."""
    return ((query * query.shape[-1] ** -0.5) @ keys.transpose(-1, -2)).float()


def attend(query: Tensor, keys: Tensor, values: Tensor, valid: Tensor) -> _Attention:
    """Attend from one token, softmax in float32.

    Args:
        query: Queries of the token, ``(batch, kv_heads, group, head_dim)``, rotated as the keys are.
        keys: Keys that may be attended to, ``(batch, kv_heads, keys, head_dim)``.
        values: Values of these keys, ``(batch, kv_heads, keys, head_dim)``.
        valid: True where a key may be seen, bool ``(batch, kv_heads or 1, keys)``.
    """
    logits = scaled_logits(query, keys)
    weights = torch.softmax(logits + torch.where(valid.unsqueeze(2), 0.0, MASKED_LOGIT), dim=-1)
    return _Attention(weights.to(values.dtype) @ values, logits, weights)


def _where_active(token: _Token, following: Tensor, last: Tensor) -> Tensor:
    """Take the next carry only of robots that have a token."""
    active = (token.position >= 0).reshape(-1, *([1] * (last.dim() - 1)))
    return torch.where(active, following, last)
