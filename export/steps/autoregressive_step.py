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
from saccade.export.steps.acting_step import ActingStep, StepOutputs
from saccade.export.steps.prompt_step import PromptStep
from saccade.export.steps.selecting_module import Named
from saccade.export.steps.token_pass import TokenPass
from saccade.policies.base import Carry, TokenPolicy


class ActionTokenOutputs(NamedTuple):
    """What one control step gives, before tokens become numbers.

    Args:
        tokens: Action tokens, int64 ``(batch, action_dim)``.
        logits: Logits that the tokens were read from, float32 ``(batch, action_dim, vocab_size)``.
        states: Final decoder states that the logits were read from, ``(batch, action_dim, width)``.
        kept: int64 ``(batch, keep)``, original visual indices, ascending: what survived the last cut that kept any.
        fate: int64 ``(batch, tokens)``: for each visual token the original index of the survivor that carries it
            (itself if it was kept), -1 if it was dropped.
        carry: Tensors for the next control step, by name.
    """

    tokens: Tensor
    logits: Tensor
    states: Tensor
    kept: Tensor
    fate: Tensor
    carry: Carry


class AutoregressiveStep(PromptStep[AutoregressiveModel], ActingStep[AutoregressiveModel]):
    """One control step at a fixed budget of visual tokens, whose actions are decoded token by token.

    It takes what :class:`saccade.export.steps.acting_step.ActingStep` takes.

    A policy's action rows are those that action tokens are read from: the last of the prompt, then each action token
    but the last one.
    """

    def __init__(
        self, family: AutoregressiveModel, policy: TokenPolicy, keep: int, *, tells_fate: bool | None = None
    ) -> None:
        super().__init__(family, policy, keep, tells_fate=tells_fate)
        self.action_dim = family.action_dim
        self.register_buffer("values", torch.from_numpy(family.token_values), persistent=False)

    def step(self, observed: tuple[Tensor, ...], named: Named) -> StepOutputs:
        """Run one control step.

        Args:
            observed: images uint8 ``(batch, views, height, width, 3)``, RGB; token_ids int64
                ``(batch, max_text_tokens)``; attention_mask bool ``(batch, tokens)``.
            named: Task tensors and carry, by name.
        """
        out, values = self.decode(observed, named), self.values
        assert isinstance(values, Tensor)  # noqa: S101 - buffers have no type
        return StepOutputs(values[out.tokens].unsqueeze(1), out.kept, out.fate, out.carry, out.states)

    def choice_logits(self, out: StepOutputs) -> Tensor:
        """Return what a control step chose its tokens by, ``(batch, action_dim, vocab_size)``."""
        logits: Tensor = self.family.logits(out.action_states)
        return logits

    def decode(self, observed: tuple[Tensor, ...], named: Named) -> ActionTokenOutputs:
        """Run one control step up to its action tokens.

        Args:
            observed: images uint8 ``(batch, views, height, width, 3)``, RGB; token_ids int64
                ``(batch, max_text_tokens)``; attention_mask bool ``(batch, tokens)``.
            named: Task tensors and carry, by name.
        """
        family = self.family
        images, token_ids, attention_mask = observed
        prompt = self.read(images, token_ids, attention_mask, named)
        survivors, states, logits = prompt.survivors, [prompt.state], [family.logits(prompt.state)]
        tokens = [logits[0].argmax(dim=-1)]
        following = TokenPass(self.decoder_pass, prompt.cached, survivors)
        length = family.layout.take(attention_mask, TEXT).to(torch.int64).sum(dim=1, keepdim=True)
        for number in range(self.action_dim - 1):
            embedded = family.decoder.embed_tokens(tokens[-1].unsqueeze(1))
            states.append(following.run(embedded, length + (family.first_position + number)))
            logits.append(family.logits(states[-1]))
            tokens.append(logits[-1].argmax(dim=-1))
        following.report()
        return ActionTokenOutputs(
            torch.stack(tokens, dim=1),
            torch.stack(logits, dim=1),
            torch.stack(states, dim=1),
            survivors.last_kept,
            survivors.fate,
            {**survivors.update(), **prompt.memory.carry()},
        )
