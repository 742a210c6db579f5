"""The visual tokens of a control step that are alive, and everything that is known of them or goes with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from saccade.export.steps.signal_store import SignalStore, gather_tokens_at
from saccade.export.steps.tower_memory import TowerMemory
from saccade.policies.base import (
    Carry,
    Grid,
    Place,
    Selection,
    SelectionInputs,
    TokenPolicy,
    UpdateInputs,
)
from saccade.policies.signals import AttentionReceived, EncodedAge, Signal, ViewScores, VisionMap

GONE = -1
"""Value in the fate table for a token that was dropped."""


class Survivors:
    """Asks the policy at each cut and keeps signals, notes, coordinates and deep features in step with the tokens.

    Attributes:
        deep: Features that decoder layers add to the visual tokens that they give, one tensor ``(batch, alive, dim)``
            for each layer from the first on (Qwen3-VL): thinned, and mixed, as the tokens are. Most models have none.
        towers: What the towers left in the last control step, and leave in this one.

    Args:
        policy: Policy that is asked at each cut.
        counts: Survivors of each cut of the policy; None = every token, and no cut is made.
        grid: Grid of the visual tokens.
        carry: Tensors that the previous control step handed over, by name.
        text: Decoder input embeddings of the instruction, ``(batch, text, width)``.
        text_mask: bool ``(batch, text)``, True = valid.
        tells_fate: Follow every token to what carries it.
    """

    def __init__(
        self,
        policy: TokenPolicy,
        counts: Sequence[int] | None,
        grid: Grid,
        carry: Carry,
        text: Tensor,
        text_mask: Tensor,
        *,
        tells_fate: bool,
    ) -> None:
        self._policy, self._counts, self._grid, self._carry = policy, counts, grid, carry
        self._text, self._text_mask, self._tells_fate = text, text_mask, tells_fate
        cuts = () if counts is None else policy.cuts
        self.signals = SignalStore(request for cut in cuts for request in cut.signals)
        self.updates = SignalStore(policy.update_signals)
        self._finished: dict[Signal, Tensor] = {}
        self._present: Tensor | None = None
        batch = text.shape[0]
        self.origin = torch.arange(grid.tokens, device=text.device).expand(batch, grid.tokens)
        self.last_kept = self.origin
        self.fate = self.origin
        self.deep: tuple[Tensor, ...] = ()
        self.towers = TowerMemory.of(policy, carry, grid.tokens)
        if self.signals.wanted(EncodedAge):
            self.signals.add(EncodedAge(), self.towers.ages_before)
        self._memo: Mapping[str, Tensor] = {}

    def cuts_at(self, place: Place, index: int) -> list[int]:
        """Return the numbers of the cuts at ``index`` of ``place`` behind which tokens are missing."""
        if self._counts is None:
            return []
        return [
            number
            for number, cut in enumerate(self._policy.cuts)
            if (cut.place, cut.index) == (place, index) and not cut.only_encodes
        ]

    def choose_encoded(self, patches: Tensor) -> None:
        """Ask the policy which patches are encoded, if it says so and not all are.

        Args:
            patches: Embedded patches of the first tower, ``(batch * views, patches, dim)``.
        """
        for number, cut in enumerate(self._policy.cuts if self._counts is not None else ()):
            assert self._counts is not None  # noqa: S101 - there are cuts
            if cut.only_encodes and self._counts[number] < self._grid.tokens:
                inputs = self._inputs(number, patches, folded=True)
                selection = self._policy.select(inputs, self._carry, self._counts[number] // self._grid.views)
                self.towers.encode_only(self._unfold(selection).kept)

    def cut(self, number: int, embeddings: Tensor) -> Selection | None:
        """Make a cut.

        Args:
            number: Index of the cut among the policy's cuts.
            embeddings: Tokens at the cut, ``(batch, alive, dim)``, or ``(batch * views, alive in a view, dim)`` inside
                a tower.

        Returns:
            The policy's selection, in the layout of ``embeddings``; None: no visual token survives.
        """
        assert self._counts is not None  # noqa: S101 - cuts_at returned a number
        keep = self._counts[number]
        if keep == 0:
            self._finish_updates()
            self.origin = self.origin[:, :0]
            self.signals.drop(None)
            self.deep = ()
            return None
        folded = self._policy.cuts[number].place is Place.TOWER
        selection = self._policy.select(
            self._inputs(number, embeddings, folded=folded),
            self._carry,
            keep // self._grid.views if folded else keep,
        )
        self._advance(self._unfold(selection) if folded else selection)
        return selection

    def note_action(self, request: Signal, value: Tensor, origin: Tensor) -> None:
        """Note an update signal that was read after the last cut, of tokens that were alive before or behind it.

        Args:
            request: One of the policy's ``update_signals``.
            value: What was observed of each token, ``(batch, alive)``.
            origin: Original indices of those tokens in the whole observation, int64 ``(batch, alive)``.
        """
        self._finished[request] = self._original(value, origin)
        self._present = self._original(torch.ones_like(value), origin)

    def update(self) -> Carry:
        """Return the carry for the next control step: the policy's and the towers'."""
        self._finish_updates()
        shape = (self._text.shape[0], self._grid.tokens)
        present = torch.ones(shape, device=self._text.device) if self._present is None else self._present
        signals = tuple(self._finished[request] for request in self._policy.update_signals)
        kept = None if self._counts is None else self.last_kept
        inputs = UpdateInputs(signals, present, kept, self.towers.encoded)
        return {**self._policy.update(inputs, self._carry), **self.towers.carry()}

    def add_rows(self, request: AttentionReceived, attention: Tensor, origin: Tensor, rows: int) -> None:
        """Average an update signal, which one query row gave so far, over further rows that ask behind the last cut.

        Args:
            request: One of the policy's update signals, observed.
            attention: Attention summed over these rows and the request's layers, ``(batch, alive in these layers)``.
            origin: Original indices of those tokens in the whole observation, int64 ``(batch, alive in these layers)``.
            rows: Number of further rows.
        """
        self._finish_updates()
        further = self._original(attention / len(request.layers), origin)
        self._finished[request] = (self._finished[request] + further) / (1 + rows)

    def _inputs(self, number: int, embeddings: Tensor, *, folded: bool) -> SelectionInputs:
        signals = tuple(self.signals.read(request) for request in self._policy.cuts[number].signals)
        origin, memo, grid = self.origin, self._memo, self._grid
        if folded:
            asked = self._policy.cuts[number].signals
            signals = tuple(
                x if isinstance(request, (VisionMap, ViewScores)) else self._fold(x)
                for request, x in zip(asked, signals, strict=True)
            )
            first = torch.arange(grid.views, device=origin.device).repeat(origin.shape[0]) * grid.per_view
            origin = self._fold(origin) - first.unsqueeze(1)
            memo = {name: self._fold(note) for name, note in memo.items()}
            grid = grid.view
        return SelectionInputs(number, signals, embeddings, origin, grid, self._text, self._text_mask, memo)

    def _fold(self, x: Tensor) -> Tensor:
        """(batch, views * n, ...) -> (batch * views, n, ...)."""
        return x.reshape(x.shape[0] * self._grid.views, -1, *x.shape[2:])

    def _unfold(self, selection: Selection) -> Selection:
        """Bring a selection made view by view into coordinates of the whole observation."""
        batch, views = self._text.shape[0], self._grid.views
        alive, keep = self.origin.shape[1] // views, selection.kept.shape[1]
        start = torch.arange(views, device=self.origin.device).unsqueeze(1) * alive
        kept = (selection.kept.reshape(batch, views, keep) + start).flatten(1)
        memo = {name: note.reshape(batch, -1) for name, note in selection.memo.items()}
        mix = None if selection.mix is None else _block_diagonal(selection.mix, views)
        return Selection(kept, mix, memo)

    def _advance(self, selection: Selection) -> None:
        kept = selection.kept
        self._finish_updates()
        if self._tells_fate:
            self.fate = self._next_fate(selection)
        self.signals.drop(kept)
        self.deep = tuple(take_survivors(features, selection) for features in self.deep)
        self._memo = {name: torch.gather(note, 1, kept) for name, note in selection.memo.items()}
        self.origin = self.last_kept = torch.gather(self.origin, 1, kept)

    def _next_fate(self, selection: Selection) -> Tensor:
        """Follow every original token one cut further: the original index of its survivor, or ``GONE``."""
        survivors = torch.gather(self.origin, 1, selection.kept)
        here = torch.full_like(self.origin, GONE)
        if selection.mix is not None:
            share, into = selection.mix.max(dim=1)
            here = torch.where(share > 0, torch.gather(survivors, 1, into), here)
        here = here.scatter(1, selection.kept, survivors)
        table = torch.full_like(self.fate, GONE).scatter(1, self.origin, here)
        followed = torch.gather(table, 1, self.fate.clamp(min=0))
        return torch.where(self.fate == GONE, GONE, followed)

    def _finish_updates(self) -> None:
        """Bring update signals that were observed since the last cut into original coordinates."""
        for request in self._policy.update_signals:
            if request in self._finished or not self.updates.has(request):
                continue
            value = self.updates.read(request)
            if value.shape[1] != self._grid.tokens:
                ones = torch.ones(self.origin.shape, device=value.device)
                self._present = self._original(ones, self.origin)
            self._finished[request] = self._original(value, self.origin)

    def _original(self, value: Tensor, origin: Tensor) -> Tensor:
        """Bring ``(batch, alive, ...)`` into original coordinates, 0 where a token was absent."""
        if value.shape[1] == self._grid.tokens:
            return value
        absent = value.new_zeros(value.shape[0], self._grid.tokens, *value.shape[2:])
        index = origin.reshape(*origin.shape, *([1] * (value.dim() - 2))).expand_as(value)
        return absent.scatter(1, index, value)


def take_survivors(x: Tensor, selection: Selection) -> Tensor:
    """Return what the survivors are: their own rows of ``(batch, alive, dim)``, mixed where tokens were merged."""
    own = gather_tokens_at(x, selection.kept)
    if selection.mix is None:
        return own
    # A one-hot product rounds where an engine multiplies in reduced precision, so unmerged rows are copied.
    mixed = (selection.mix @ x.float()).to(x.dtype)
    alone = _is_identity(selection)
    return torch.where(alone.unsqueeze(-1), own, mixed)


def _is_identity(selection: Selection) -> Tensor:
    """Bool ``(batch, keep)``: the survivor is itself and nothing else."""
    assert selection.mix is not None  # noqa: S101 - the caller looked
    itself = torch.gather(selection.mix, 2, selection.kept.unsqueeze(-1)).squeeze(-1)
    return (itself == 1.0) & (selection.mix.abs().sum(dim=-1) == 1.0)


def _block_diagonal(mix: Tensor, views: int) -> Tensor:
    """(batch * views, keep, alive) -> (batch, views * keep, views * alive)."""
    _, keep, alive = mix.shape
    by_view = mix.reshape(-1, views, keep, 1, alive)
    blocks = by_view * torch.eye(views, device=mix.device).reshape(views, 1, views, 1)
    return blocks.reshape(-1, views * keep, views * alive)
