"""A control step of a family that draws its actions out of noise: a prefix that a policy thins, then Euler steps.

    look -> prefix decoder, cuts between its layers -> keys and values of each layer's survivors -> unrolled steps

Each expert layer reads what is alive at its height: layers in front of a cut leave more visual tokens than those behind
it, all at their original positions. Of the last prefix layer only keys and values are computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

from saccade.export.families.base import PerceivingFamily
from saccade.export.families.flow import LayerMemory
from saccade.export.families.flow_family import FlowFamily
from saccade.export.families.sequence import TEXT, VISUAL, Sequence
from saccade.export.models.attention_rows import attention_received
from saccade.export.models.expert import ExpertOutput, LayerContext
from saccade.export.steps.acting_step import ActingStep, StepOutputs
from saccade.export.steps.decoder_with_cuts import LayerKeys
from saccade.export.steps.selecting_module import Named
from saccade.export.steps.survivors import Survivors
from saccade.export.steps.visual_memory import VisualMemory
from saccade.policies.base import Behind, TokenPolicy
from saccade.policies.signals import AttentionAhead, AttentionReceived, QueryRows
from saccade.proto.errors import ExportError


class FlowStep(ActingStep[FlowFamily]):
    """One control step at a fixed budget of visual tokens, whose actions are drawn out of noise.

    It takes what :class:`ActingStep` takes.

    Raises:
        ExportError: The policy asks for what there is not before an expert acts: attention of action rows at a cut,
            keys of the last control step, a decoder with fewer heads.
    """

    is_prefix: ClassVar[bool] = True

    @classmethod
    def check_policy(cls, policy: TokenPolicy, family: PerceivingFamily) -> None:
        """Check that a policy can act where an expert attends to what the prefix keeps, with all its heads.

        Raises:
            ExportError: The policy asks for what there is not before an expert acts, or for what this model does not
                have.
        """
        if problems := list(_problems(policy)):
            raise ExportError(
                f"policy {policy.name!r} does not fit a family that draws actions out of noise:\n  "
                + "\n  ".join(problems)
            )
        super().check_policy(policy, family)

    def step(self, observed: tuple[Tensor, ...], named: Named) -> StepOutputs:
        """Run one control step; mask and positions are laid out over prefix and suffix.

        Args:
            observed: images uint8 ``(batch, views, height, width, 3)``, RGB; proprio float32 ``(batch, state_dim)``,
                normalised, unless it is text; token_ids int64 ``(batch, max_text_tokens)``; attention_mask bool and
                position_ids int64, ``(batch, prefix + suffix)``; noise float32 ``(batch, chunk, action width)``.
            named: Task tensors and carry, by name.
        """
        given = dict(zip(self.host_inputs, observed, strict=True))
        family, layout, token_ids, state = (
            self.family,
            self.family.layout,
            given["token_ids"],
            given.get("proprio"),
        )
        mask, positions = given["attention_mask"][:, : layout.tokens], given["position_ids"]
        survivors = self.watch(named, family.embed_text(token_ids), layout.take(mask, TEXT))
        features = self.look(given["images"], survivors)
        sequence = Sequence.entering(
            layout,
            family.embed(family.embed_visual(features), token_ids, state),
            (mask, positions[:, : layout.tokens]),
            survivors.origin,
            family.prefix_order(mask),
        )
        layers: list[LayerKeys] = []
        nothing = VisualMemory(layout, None, None)
        self.decoder_pass.run(sequence, survivors, nothing, layers)
        memory = [LayerMemory(layer.keys, layer.values, layer.sequence.mask) for layer in layers]
        prepared = family.observe(memory, positions[:, layout.tokens :], family.embed_lead(state))
        rows = ActionRows(survivors, layers, prepared.contexts, family)
        actions, states = family.integrate(given["noise"], prepared, rows.watch)
        rows.finish()
        return StepOutputs(
            family.read_actions(actions), survivors.last_kept, survivors.fate, survivors.update(), states
        )


class ActionRows:
    """Attention that visual tokens of the prefix receive from the actions, averaged over layers and Euler steps.

    Args:
        survivors: Visual tokens that are alive, with the policy that asks for the attention.
        layers: Keys and values that each prefix layer left.
        contexts: What each expert layer makes of those keys and values.
        family: Model whose expert acts.
    """

    def __init__(
        self,
        survivors: Survivors,
        layers: list[LayerKeys],
        contexts: tuple[LayerContext, ...],
        family: FlowFamily,
    ) -> None:
        self._survivors, self._layers, self._contexts = survivors, layers, contexts
        self._lead = len(family.suffix_order) - family.flow.chunk
        self._steps = family.flow.steps
        self._sums: dict[AttentionReceived, Tensor] = {}

    def watch(self, index: int, output: ExpertOutput) -> None:
        """Add what one expert layer contributes."""
        for request in self._survivors.updates.wanted(AttentionReceived):
            if request.rows is QueryRows.ACTION and index in request.layers:
                received = self._received(index, output)
                before = self._sums.get(request)
                self._sums[request] = received if before is None else before + received

    def finish(self) -> None:
        """Hand the means to the policy's update."""
        for request, total in self._sums.items():
            parts = len(request.layers) * self._steps
            self._survivors.note_action(request, total / parts, self._layers[request.layers[0]].origin)

    def _received(self, index: int, output: ExpertOutput) -> Tensor:
        """Mean over heads and action rows of one layer, float32 ``(batch, alive)``."""
        query, bias = output.query[:, :, self._lead :], self._contexts[index].bias
        batch, _, rows, _ = query.shape
        if bias.shape[2] > 1:
            bias = bias[:, :, self._lead :]
        weights = torch.full((batch, rows), 1.0 / rows, device=query.device)
        received = attention_received(query, output.key, bias, weights)
        return received[:, self._layers[index].sequence.layout.span(VISUAL)]


def _problems(policy: TokenPolicy) -> Iterator[str]:
    for number, cut in enumerate(policy.cuts):
        if cut.behind is Behind.LAST_STEP and not cut.only_encodes:
            yield (
                f"cut {number}: expected dropped tokens to be gone, found keys of the last step; actions drawn out of "
                "noise follow stale keys"
            )
        for signal in cut.signals:
            if isinstance(signal, (AttentionReceived, AttentionAhead)) and signal.rows is QueryRows.ACTION:
                yield (
                    f"cut {number}: expected rows of text, found those of actions, which are drawn behind the prefix: "
                    f"{signal}"
                )
    if policy.removed_heads:
        yield (
            f"expected every head, found some removed from layers {sorted(policy.removed_heads)}; the expert attends "
            "with as many"
        )
