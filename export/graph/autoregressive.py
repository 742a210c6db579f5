"""A control step of an autoregressive family: the prompt, then one unrolled pass for each further action token.

Greedy over the whole vocabulary, and always as many tokens as an action has dimensions. What a token stands for is
looked up in one table over the vocabulary.

Source:
    OpenVLA (2406.09246), ``predict_action`` of openvla/openvla c8f03f4. Deviation: a token that ends a sequence does
    not end the action; there, the action would then be read from the prompt's last tokens too.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from saccade.export.families.autoregressive import AutoregressiveModel
from saccade.export.families.sequence import TEXT
from saccade.export.graph.prompt_pass import PromptStep
from saccade.export.graph.token_pass import TokenPass
from saccade.policies.base import Carry, TokenPolicy


class AutoregressiveOutputs(NamedTuple):
    """What one control step gives.

    Args:
        actions: ``(batch, 1, action_dim)``, normalised: a chunk of one action.
        tokens: The action tokens, int64 ``(batch, action_dim)``.
        margins: How far the logit of each lies above the next best one, float32 ``(batch, action_dim)``.
        kept: int64 ``(batch, keep)``, original visual indices, ascending.
        fate: int64 ``(batch, tokens)``, see :class:`saccade.export.graph.placement.StepOutputs`.
        carry: For the next control step.
    """

    actions: Tensor
    tokens: Tensor
    margins: Tensor
    kept: Tensor
    fate: Tensor
    carry: Carry


class AutoregressiveStep(PromptStep):
    """One control step at a fixed budget; arguments as :class:`saccade.export.graph.selecting.SelectingModule`.

    A policy's action rows are those that action tokens are read from: the last of the prompt, then each action token
    but the last one.
    """

    def __init__(
        self, family: AutoregressiveModel, policy: TokenPolicy, keep: int, *, tells_fate: bool | None = None
    ) -> None:
        super().__init__(family, policy, keep, tells_fate=tells_fate)
        self.action_dim = family.action_dim
        self.register_buffer("values", torch.from_numpy(family.token_values), persistent=False)

    def forward(
        self, images: Tensor, token_ids: Tensor, attention_mask: Tensor, *others: Tensor
    ) -> tuple[Tensor, ...]:
        """Run one control step on flat tensors, as the graph does.

        Args:
            images: uint8 ``(batch, views, height, width, 3)``, RGB.
            token_ids: int64 ``(batch, max_text_tokens)``.
            attention_mask: bool ``(batch, tokens)``.
            others: ``task_inputs``, then the carry.

        Returns:
            actions, kept, fate if it is told, and the next carry.
        """
        out = self.step(images, token_ids, attention_mask, others)
        fate = (out.fate,) if self.tells_fate else ()
        return out.actions, out.kept, *fate, *(out.carry[spec.name] for spec in self.carry_specs)

    def step(
        self, images: Tensor, token_ids: Tensor, attention_mask: Tensor, others: tuple[Tensor, ...]
    ) -> AutoregressiveOutputs:
        """Run one control step; arguments as :meth:`forward`."""
        family = self.family
        prompt = self.read(images, token_ids, attention_mask, others)
        survivors, logits = prompt.survivors, [prompt.logits]
        tokens = [prompt.logits.argmax(dim=-1)]
        following = TokenPass(self.decoder_pass, prompt.cached, TokenPass.wanted(survivors))
        words = family.layout.take(attention_mask, TEXT).to(torch.int64).sum(dim=1, keepdim=True)
        for number in range(self.action_dim - 1):
            embedded = family.decoder.embed_tokens(tokens[-1].unsqueeze(1))
            logits.append(family.logits(following.run(embedded, words + (family.first_position + number))))
            tokens.append(logits[-1].argmax(dim=-1))
        following.report(survivors)
        action_tokens, values = torch.stack(tokens, dim=1), self.values
        assert isinstance(values, Tensor)  # noqa: S101 - buffers have no type
        first, second = torch.stack(logits, dim=1).topk(2, dim=-1).values.unbind(-1)
        return AutoregressiveOutputs(
            values[action_tokens].unsqueeze(1),
            action_tokens,
            first - second,
            survivors.last_kept,
            survivors.fate,
            {**survivors.update(), **prompt.memory.carry()},
        )
