"""What every graph with a token-selection policy in it shares: budget, cuts before the decoder, carry, task tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from saccade.export.families.base import PerceivingFamily
from saccade.export.steps.decoder_with_cuts import DecoderPass, thinned_layers
from saccade.export.steps.policy_checks import check_placement, check_schedule
from saccade.export.steps.survivors import Survivors, take_survivors
from saccade.export.steps.tower_memory import tower_memory_specs
from saccade.export.steps.tower_with_cuts import run_towers
from saccade.export.steps.visual_memory import memory_specs
from saccade.policies.base import Carry, CarrySpec, Place, TokenPolicy
from saccade.policies.signals import ViewScores
from saccade.proto.tensor_names import VIEW_SCORES

FamilyT_co = TypeVar("FamilyT_co", bound=PerceivingFamily, covariant=True)


class Named(NamedTuple):
    """The tensors that a graph takes beside the observation, by name.

    Args:
        task: Tensors that the host sets once per task.
        carry: Tensors that the last step handed over.
    """

    task: Mapping[str, Tensor]
    carry: Carry


class SelectingModule(nn.Module, Generic[FamilyT_co]):
    """A family and a policy at a fixed budget of visual tokens.

    What lies before a cut sees every token that is alive there, what lies behind it the survivors, at their original
    positions. With a budget of all tokens no cut is made: the result is the unpruned model's, and the policy only
    observes. The last decoder layer computes only the rows that are read, since nobody reads the others.

    Args:
        family: Model that is run.
        policy: Policy that selects visual tokens.
        keep: Budget of the profile, visual tokens.
        tells_fate: Say for every token what carries it; None = if the policy merges.

    Raises:
        ExportError: The policy asks for something that cannot be had where it acts.
    """

    is_prefix: ClassVar[bool] = False
    """Whether the decoder's keys and values are read by an expert that acts, see :class:`DecoderPass`."""

    def __init__(
        self, family: FamilyT_co, policy: TokenPolicy, keep: int, *, tells_fate: bool | None = None
    ) -> None:
        super().__init__()
        self.check_policy(policy, family)
        self.policy = policy
        self.keep = keep
        self.tells_fate = policy.merges if tells_fate is None else tells_fate
        self.counts = None if keep >= family.grid.tokens else policy.schedule(keep)
        if self.counts is not None:
            check_schedule(policy, self.counts, family.grid)
        self.thinned = thinned_layers(family.decoder, {} if self.counts is None else policy.removed_heads)
        self.decoder_pass = DecoderPass(family.decoder, self.thinned, policy, is_prefix=self.is_prefix)
        self.family = family

    @classmethod
    def check_policy(cls, policy: TokenPolicy, family: PerceivingFamily) -> None:
        """Check that a policy can act in a model that is run as this module runs it.

        Raises:
            ExportError: The policy asks for something that cannot be had; every problem of one kind at once.
        """
        check_placement(policy, family)

    @property
    def survivors(self) -> int:
        """Length of the kept set: what survives the last cut that keeps any token."""
        cuts = zip(self.policy.cuts, self.counts or (), strict=False)
        counts = [count for cut, count in cuts if count > 0 and not cut.only_encodes]
        return counts[-1] if counts else self.family.grid.tokens

    @property
    def task_inputs(self) -> tuple[str, ...]:
        """Names of the tensors that the host sets once per task."""
        wanted = {type(signal) for cut in self.policy.cuts for signal in cut.signals}
        return (VIEW_SCORES,) if ViewScores in wanted else ()

    @property
    def carry_specs(self) -> tuple[CarrySpec, ...]:
        """The carry tensors, in the order of the graph's inputs and outputs."""
        family = self.family
        return (
            *self.policy.carry_specs(family.grid),
            *memory_specs(self.policy, family),
            *tower_memory_specs(self.policy, family),
        )

    def named(self, others: tuple[Tensor, ...]) -> Named:
        """Name the tensors that follow the host's: ``task_inputs``, then the carry."""
        tasks = len(self.task_inputs)
        names = [spec.name for spec in self.carry_specs]
        return Named(
            dict(zip(self.task_inputs, others[:tasks], strict=True)),
            dict(zip(names, others[tasks:], strict=True)),
        )

    def watch(self, named: Named, text: Tensor, text_mask: Tensor) -> Survivors:
        """Begin to follow the visual tokens: every one is alive.

        Args:
            named: Task tensors and carry, from :meth:`named`.
            text: Decoder input embeddings of the instruction, ``(batch, text, width)``.
            text_mask: bool ``(batch, text)``, True = valid.
        """
        grid = self.family.grid
        survivors = Survivors(
            self.policy, self.counts, grid, named.carry, text, text_mask, tells_fate=self.tells_fate
        )
        if VIEW_SCORES in named.task:
            survivors.signals.add(ViewScores(), named.task[VIEW_SCORES])
        return survivors

    def look(self, images: Tensor, survivors: Survivors) -> Tensor:
        """Run the towers and make the cuts that lie before the decoder.

        Args:
            images: uint8 ``(batch, views, height, width, 3)``, RGB.
            survivors: Visual tokens that are alive, from :meth:`watch`.

        Returns:
            Features of the tokens that are alive, ``(batch, alive, vision_width)``.
        """
        family = self.family
        features = run_towers(family, images, survivors)
        if not family.keeps_patches:
            features = family.arrange(features)
            for store in (survivors.signals, survivors.updates):
                store.arrange(family.arrange_signal)
        for number in survivors.cuts_at(Place.PROJECTOR, 0):
            selection = survivors.cut(number, features)
            if selection is not None:
                features = take_survivors(features, selection)
        return features


def initial_state(step: SelectingModule[PerceivingFamily]) -> tuple[Tensor, ...]:
    """Return task tensors and carry after a reset, in graph order."""
    tasks = tuple(torch.ones(1, step.family.grid.views) for _ in step.task_inputs)
    carry = tuple(
        torch.full(spec.shape, spec.initial, dtype=getattr(torch, spec.dtype)) for spec in step.carry_specs
    )
    return (*tasks, *carry)
