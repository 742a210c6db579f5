"""A control step with a token-selection policy placed between two decoder layers, as one exportable module."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from saccade.export.families.base import SinglePassFamily
from saccade.export.families.sequence import VISUAL, SequenceLayout
from saccade.export.graph.attention_signals import SignalCollector
from saccade.policies.base import Carry, CarrySpec, SelectionInputs, TokenPolicy, UpdateInputs
from saccade.policies.selection import gather_tokens
from saccade.proto.errors import ExportError


class Sequence(NamedTuple):
    """A decoder sequence at one layer.

    Args:
        hidden: ``(batch, tokens, width)``.
        mask: bool ``(batch, tokens)``.
        positions: int64 ``(batch, tokens)``.
        layout: Where the segments lie.
    """

    hidden: Tensor
    mask: Tensor
    positions: Tensor
    layout: SequenceLayout


class StepOutputs(NamedTuple):
    """What one control step gives.

    Args:
        actions: ``(batch, chunk, action_dim)``, normalised.
        kept: int64 ``(batch, keep)``, original visual indices, ascending.
        carry: For the next control step.
    """

    actions: Tensor
    kept: Tensor
    carry: Carry


class SelectingStep(nn.Module):
    """One control step at a fixed keep count.

    Layers before ``policy.insertion_layer`` see every visual token, the rest only the survivors, at their original
    positions. With ``keep`` = all tokens nothing is gathered: the result is the unpruned model's, and the policy
    only observes. The last layer computes the action rows alone, since nobody reads the others.

    Args:
        family: The model.
        policy: The policy.
        keep: Visual tokens that survive.

    Raises:
        ExportError: The policy asks for something that cannot be had where it acts.
    """

    def __init__(self, family: SinglePassFamily, policy: TokenPolicy, keep: int) -> None:
        super().__init__()
        check_placement(policy, family.decoder.config.layers)
        self.family = family
        self.policy = policy
        self.keep = keep

    @property
    def carry_specs(self) -> tuple[CarrySpec, ...]:
        """The carry tensors, in the order of the graph's inputs and outputs."""
        return self.policy.carry_specs(self.family.grid)

    def forward(
        self,
        images: Tensor,
        proprio: Tensor,
        token_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        *carry: Tensor,
    ) -> tuple[Tensor, ...]:
        """Run one control step on flat tensors, as the graph does: returns (actions, kept, *carry)."""
        named = {spec.name: tensor for spec, tensor in zip(self.carry_specs, carry, strict=True)}
        embeddings = self.family.embed_observation(images, proprio, token_ids)
        out = self.step(embeddings, attention_mask, position_ids, named)
        return out.actions, out.kept, *(out.carry[spec.name] for spec in self.carry_specs)

    def step(
        self, embeddings: Tensor, attention_mask: Tensor, position_ids: Tensor, carry: Carry
    ) -> StepOutputs:
        """Run the decoder with the policy in it.

        Args:
            embeddings: Decoder input ``(batch, tokens, width)``.
            attention_mask: bool ``(batch, tokens)``.
            position_ids: int64 ``(batch, tokens)``.
            carry: From the previous control step.
        """
        policy, decoder = self.policy, self.family.decoder
        before = SignalCollector(policy.select_signals if self._selects else ())
        after = SignalCollector(policy.update_signals)
        cut = policy.insertion_layer
        full = Sequence(embeddings, attention_mask, position_ids, self.family.layout)
        sequence = self._run_layers(full, range(cut), (before, after))
        kept = self._select(before, full.layout.take(embeddings, VISUAL), carry)
        survivors = keep_visual(sequence, kept) if self._selects else sequence
        final = self._run_layers(survivors, range(cut, decoder.config.layers), (after,))
        actions = self.family.read_actions(decoder.norm(final.hidden))
        return StepOutputs(actions, kept, policy.update(self._update_inputs(after, kept), carry))

    @property
    def _selects(self) -> bool:
        return self.keep < self.family.grid.tokens

    def _run_layers(
        self, sequence: Sequence, layers: range, collectors: tuple[SignalCollector, ...]
    ) -> Sequence:
        """Run some layers; of the decoder's last one, only the action rows come back."""
        decoder, (hidden, mask, positions, layout) = self.family.decoder, sequence
        rotary, bias = decoder.rotary(positions), decoder.attention_bias(mask)
        take = partial(layout.action_states, attention_mask=mask)
        for index in layers:
            last = index == decoder.config.layers - 1
            short = last and all(collector.reads_only_action(index) for collector in collectors)
            output = decoder.layers[index](hidden, rotary, bias, take if short else None)
            hidden = take(output.hidden) if last and not short else output.hidden
            for collector in collectors:
                collector.observe(index, output, layout, mask, bias, only_action_rows=short)
        return sequence._replace(hidden=hidden)

    def _select(self, collector: SignalCollector, embeddings: Tensor, carry: Carry) -> Tensor:
        if not self._selects:
            batch, tokens = embeddings.shape[:2]
            return torch.arange(tokens, device=embeddings.device).expand(batch, tokens)
        inputs = SelectionInputs(collector.signals(), embeddings, self.family.grid)
        return self.policy.select(inputs, carry, self.keep)

    def _update_inputs(self, collector: SignalCollector, kept: Tensor) -> UpdateInputs:
        """Scatter signals of pruned layers to original coordinates."""
        signals, shape = collector.signals(), (kept.shape[0], self.family.grid.tokens)
        if not self._selects or not _read_after_cut(self.policy):
            return UpdateInputs(signals, torch.ones(shape, device=kept.device))
        absent = torch.zeros(shape, device=kept.device)
        scattered = tuple(absent.scatter(1, kept, signal) for signal in signals)
        return UpdateInputs(scattered, absent.scatter(1, kept, 1.0))


def keep_visual(sequence: Sequence, kept: Tensor) -> Sequence:
    """Drop all visual tokens but ``kept``, int64 ``(batch, keep)``; positions stay the original ones."""
    hidden, mask, positions, layout = sequence
    return Sequence(
        layout.replace_visual(hidden, gather_tokens(layout.take(hidden, VISUAL), kept)),
        layout.replace_visual(mask, torch.gather(layout.take(mask, VISUAL), 1, kept)),
        layout.replace_visual(positions, torch.gather(layout.take(positions, VISUAL), 1, kept)),
        layout.with_visual(kept.shape[1]),
    )


def check_placement(policy: TokenPolicy, layers: int) -> None:
    """Check that every signal exists where the policy wants it.

    Raises:
        ExportError: A layer does not exist, is not yet run, or update signals mix full and pruned layers.
    """
    cut = policy.insertion_layer
    if not 0 <= cut < layers:
        raise ExportError(
            f"policy {policy.name!r}: expected an insertion layer in 0..{layers - 1}, found {cut}."
        )
    for request, limit in [(request, cut) for request in policy.select_signals] + [
        (request, layers) for request in policy.update_signals
    ]:
        if not request.layers or not all(0 <= layer < limit for layer in request.layers):
            raise ExportError(
                f"policy {policy.name!r}: expected signal layers in 0..{limit - 1}, found {request.layers}."
            )
    sides = {layer >= cut for request in policy.update_signals for layer in request.layers}
    if len(sides) > 1:
        raise ExportError(
            f"policy {policy.name!r}: expected update signals all before or all from layer {cut} on, where it "
            "prunes, so that `present` has one meaning; found both."
        )


def _read_after_cut(policy: TokenPolicy) -> bool:
    return any(max(request.layers) >= policy.insertion_layer for request in policy.update_signals)
