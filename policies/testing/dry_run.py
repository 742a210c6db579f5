"""One control step of a policy on random signals, without a model: what conformance tests and oracles run on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from saccade.policies.base import (
    Carry,
    Cut,
    Grid,
    ModelShape,
    Place,
    Selection,
    SelectionInputs,
    TokenPolicy,
    TowerShape,
    UpdateInputs,
)
from saccade.policies.signals import (
    AttentionByRow,
    EncodedAge,
    Pixels,
    Signal,
    ViewScores,
    VisionKeys,
    VisionMap,
)

GRID = Grid(views=2, rows=4, columns=5)
SHAPE = ModelShape(
    layers=8,
    grid=GRID,
    towers=(TowerShape(blocks=6, has_class_token=False), TowerShape(4, has_class_token=True)),
)
ONE_TOWER = replace(SHAPE, towers=(TowerShape(blocks=6, has_class_token=True),))
WIDTH, TEXT, HEADS = 16, 6, 3


@dataclass(frozen=True)
class Scene:
    """Random signals of one control step, whole: every request in original coordinates.

    Args:
        signals: What was asked for at any cut, by request.
        updates: What was asked for after the action, by request; 0 where ``present`` is.
        embeddings: What stands for each visual token, float ``(batch, tokens, WIDTH)``.
        text: Embeddings of the instruction, float ``(batch, TEXT, WIDTH)``.
        text_mask: Whether each text token is valid, bool ``(batch, TEXT)``.
        present: Whether each token was alive where the updates were read, float ``(batch, tokens)``.
    """

    signals: tuple[Tensor, ...]
    updates: tuple[Tensor, ...]
    embeddings: Tensor
    text: Tensor
    text_mask: Tensor
    present: Tensor

    def robots(self, index: Tensor, grid: Grid) -> Scene:
        """Return some robots of the batch."""
        batch = self.embeddings.shape[0]

        def pick(x: Tensor) -> Tensor:
            if x.shape[0] == batch:
                return x[index]
            return x.reshape(batch, grid.views, *x.shape[1:])[index].flatten(0, 1)

        return Scene(
            tuple(map(pick, self.signals)),
            tuple(map(pick, self.updates)),
            *(pick(x) for x in (self.embeddings, self.text, self.text_mask, self.present)),
        )


def requests(policy: TokenPolicy) -> tuple[Signal, ...]:
    """Return every signal that some cut asks for, once."""
    return tuple(dict.fromkeys(signal for cut in policy.cuts for signal in cut.signals))


def draw_scene(policy: TokenPolicy, seed: int, batch: int = 1, grid: Grid = GRID) -> Scene:
    """Draw random signals: softmax rows over all keys, the visual ones a part of them; half of the tokens absent."""
    generator = torch.Generator().manual_seed(seed)
    signals = tuple(_draw(request, batch, grid, generator) for request in requests(policy))
    embeddings = torch.randn(batch, grid.tokens, WIDTH, generator=generator)
    text = torch.randn(batch, TEXT, WIDTH, generator=generator)
    text_mask = torch.arange(TEXT).expand(batch, -1) < TEXT - 2
    present = (torch.rand(batch, grid.tokens, generator=generator) < 0.5).float()
    updates = []
    for request in policy.update_signals:
        value = _draw(request, batch, grid, generator)
        mask = present.reshape(*present.shape, *([1] * (value.dim() - 2)))
        updates.append(value if isinstance(request, Pixels) else value * mask)
    return Scene(signals, tuple(updates), embeddings, text, text_mask, present)


def _draw(request: Signal, batch: int, grid: Grid, generator: torch.Generator) -> Tensor:
    """Draw one whole signal."""
    if isinstance(request, VisionMap):
        logits = torch.randn(batch * grid.views, HEADS, grid.per_view, grid.per_view, generator=generator)
        return (2.0 * logits).softmax(dim=-1)
    if isinstance(request, VisionKeys):
        return torch.randn(batch, grid.tokens, WIDTH, generator=generator)
    if isinstance(request, Pixels):
        return torch.randint(0, 256, (batch, grid.tokens, 12), generator=generator).float()
    if isinstance(request, EncodedAge):
        return torch.randint(1, 20, (batch, grid.tokens), generator=generator).float()
    if isinstance(request, ViewScores):
        return torch.rand(batch, grid.views, generator=generator)
    rows = (batch, TEXT) if isinstance(request, AttentionByRow) else (batch,)
    attention = (3.0 * torch.randn(*rows, grid.tokens + 10, generator=generator)).softmax(dim=-1)
    return attention[..., : grid.tokens]


def initial_carry(policy: TokenPolicy, batch: int = 1, grid: Grid = GRID) -> Carry:
    """Return what reset hands to the first control step."""
    return {
        spec.name: torch.full((batch, *spec.shape[1:]), spec.initial, dtype=getattr(torch, spec.dtype))
        for spec in policy.carry_specs(grid)
    }


def lived_in_carry(policy: TokenPolicy, batch: int = 1, steps: int = 4) -> Carry:
    """Return the carry after a few control steps."""
    carry = initial_carry(policy, batch)
    for step in range(steps):
        scene = draw_scene(policy, 100 + step, batch)
        carry = policy.update(UpdateInputs(scene.updates, scene.present), carry)
    return carry


@dataclass(frozen=True)
class Played:
    """What one control step selected.

    Args:
        selections: Selection of each cut that kept any token.
        inputs: What the policy saw at each of these cuts.
        kept: Original indices that survived the last cut, int64 ``(batch, keep)``.
    """

    selections: tuple[Selection, ...]
    inputs: tuple[SelectionInputs, ...]
    kept: Tensor


def play(policy: TokenPolicy, scene: Scene, carry: Carry, keep: int, grid: Grid = GRID) -> Played:
    """Make every cut of one control step on random signals, as the exporter would in a model."""
    batch = scene.embeddings.shape[0]
    origin = torch.arange(grid.tokens).expand(batch, -1)
    embeddings = scene.embeddings
    memo: Mapping[str, Tensor] = {}
    whole = dict(zip(requests(policy), scene.signals, strict=True))
    selections, seen = [], []
    for number, count in enumerate(policy.schedule(keep)):
        if count == 0:
            break
        cut = policy.cuts[number]
        inputs = _inputs_at(number, cut, whole, origin, embeddings, memo, scene, grid)
        folded = cut.place is Place.TOWER
        selection = policy.select(inputs, carry, count // grid.views if folded else count)
        selections.append(selection)
        seen.append(inputs)
        if cut.only_encodes:
            continue
        kept = selection.kept
        if folded:
            start = torch.arange(grid.views).unsqueeze(1) * (origin.shape[1] // grid.views)
            kept = (kept.reshape(batch, grid.views, -1) + start).flatten(1)
        memo = {name: torch.gather(note.reshape(batch, -1), 1, kept) for name, note in selection.memo.items()}
        origin = torch.gather(origin, 1, kept)
        embeddings = torch.gather(embeddings, 1, kept.unsqueeze(-1).expand(-1, -1, WIDTH))
    return Played(tuple(selections), tuple(seen), origin)


def _inputs_at(  # noqa: PLR0913, PLR0917 - everything that a policy may see
    number: int,
    cut: Cut,
    whole: Mapping[Signal, Tensor],
    origin: Tensor,
    embeddings: Tensor,
    memo: Mapping[str, Tensor],
    scene: Scene,
    grid: Grid,
) -> SelectionInputs:
    signals = tuple(_alive(request, whole[request], origin, grid) for request in cut.signals)
    if cut.place is not Place.TOWER:
        return SelectionInputs(number, signals, embeddings, origin, grid, scene.text, scene.text_mask, memo)
    views = grid.views
    per_view = [
        x if isinstance(request, VisionMap) else x.reshape(x.shape[0] * views, -1, *x.shape[2:])
        for request, x in zip(cut.signals, signals, strict=True)
    ]
    local = origin.reshape(origin.shape[0] * views, -1) % grid.per_view
    folded = embeddings.reshape(local.shape[0], -1, WIDTH)
    notes = {name: note.reshape(local.shape[0], -1) for name, note in memo.items()}
    return SelectionInputs(
        number, tuple(per_view), folded, local, grid.view, scene.text, scene.text_mask, notes
    )


def _alive(request: Signal, whole: Tensor, origin: Tensor, grid: Grid) -> Tensor:
    """Return the part of a whole signal that belongs to tokens which are alive."""
    if isinstance(request, ViewScores):
        return whole
    if isinstance(request, AttentionByRow):
        return torch.gather(whole, 2, origin.unsqueeze(1).expand(-1, whole.shape[1], -1))
    if isinstance(request, VisionMap):
        if origin.shape[1] == grid.tokens:
            return whole
        local = origin.reshape(whole.shape[0], -1) % grid.per_view
        rows = local[:, None, :, None].expand(-1, whole.shape[1], -1, whole.shape[3])
        columns = local[:, None, None, :].expand(-1, whole.shape[1], local.shape[1], -1)
        return torch.gather(torch.gather(whole, 2, rows), 3, columns)
    index = origin.reshape(*origin.shape, *([1] * (whole.dim() - 2)))
    return torch.gather(whole, 1, index.expand(*origin.shape, *whole.shape[2:]))


class PolicyStep(torch.nn.Module):
    """A policy alone as a graph: signals and carry in; kept indices, mixes and next carry out."""

    def __init__(self, policy: TokenPolicy, keep: int, grid: Grid = GRID) -> None:
        super().__init__()
        self.policy, self.keep, self.grid = policy, keep, grid
        self.carry_names = [spec.name for spec in policy.carry_specs(grid)]

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Take what :meth:`flat` returns, in that order."""
        embeddings, text, text_mask, present, *rest = tensors
        selects, updates = len(requests(self.policy)), len(self.policy.update_signals)
        signals, seen = tuple(rest[:selects]), tuple(rest[selects : selects + updates])
        carry = dict(zip(self.carry_names, rest[selects + updates :], strict=True))
        scene = Scene(signals, seen, embeddings, text, text_mask, present)
        played = play(self.policy, scene, carry, self.keep, self.grid)
        mixes = [selection.mix for selection in played.selections if selection.mix is not None]
        following = self.policy.update(UpdateInputs(seen, present), carry)
        return played.kept, *mixes, *(following[name] for name in self.carry_names)

    def flat(self, scene: Scene, carry: Carry) -> tuple[Tensor, ...]:
        """Return the inputs of :meth:`forward`."""
        carried = (carry[name] for name in self.carry_names)
        inputs = (scene.embeddings, scene.text, scene.text_mask, scene.present)
        return (*inputs, *scene.signals, *scene.updates, *carried)
