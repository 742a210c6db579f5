"""Can a policy have what it asks for, in this model, where it asks for it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from saccade.export.families.base import PerceivingFamily, StepKind
from saccade.policies.base import Behind, Cut, Grid, ModelShape, Place, TokenPolicy, TowerShape
from saccade.policies.signals import (
    AttentionAhead,
    AttentionByRow,
    AttentionReceived,
    EncodedAge,
    Pixels,
    Signal,
    Transition,
    ViewScores,
    VisionAttention,
    VisionKeys,
    VisionMap,
    VisionRows,
)
from saccade.proto.errors import ExportError


def model_shape(family: PerceivingFamily) -> ModelShape:
    """Return what policies may know of a model."""
    towers = tuple(TowerShape(len(tower.blocks), tower.config.class_token) for tower in family.towers)
    config, side = family.decoder.config, family.towers[0].config.patch_size
    return ModelShape(
        config.layers,
        family.grid,
        towers,
        config.causal,
        patch_values=side * side * 3,
        acts_in_one_pass=family.step_kind is StepKind.SINGLE_PASS,
    )


def check_placement(policy: TokenPolicy, family: PerceivingFamily) -> None:
    """Check that a model has what a policy's cuts and signals ask for.

    Raises:
        ExportError: The policy asks for something else; every problem, one on a line.
    """
    shape = model_shape(family)
    problems = [*_cut_problems(policy, shape)]
    if not family.keeps_patches:
        problems += _patch_problems(policy, family)
    problems += _window_problems(policy, family)
    problems += _encoding_problems(policy, family)
    for number, cut in enumerate(policy.cuts):
        for signal in cut.signals:
            problems += [
                f"cut {number}: {problem}" for problem in _signal_problems(signal, number, policy, shape)
            ]
    problems += _update_problems(policy, shape)
    if problems:
        raise ExportError(f"policy {policy.name!r} does not fit this model:\n  " + "\n  ".join(problems))


def _asked(policy: TokenPolicy) -> Iterator[Signal]:
    """Return every signal that the policy asks for, once."""
    yield from dict.fromkeys(
        [*policy.update_signals, *(signal for cut in policy.cuts for signal in cut.signals)]
    )


def _window_problems(policy: TokenPolicy, family: PerceivingFamily) -> Iterator[str]:
    """Name what asks for attention between all patches of a block where each sees its window alone."""
    for signal in _asked(policy):
        if not isinstance(signal, (VisionAttention, VisionMap)) or signal.tower >= len(family.towers):
            continue
        tower = family.towers[signal.tower]
        blocks = signal.blocks if isinstance(signal, VisionAttention) else (signal.block,)
        windowed = sorted(tower.config.windowed_blocks & set(blocks))
        if windowed:
            whole = sorted(set(range(len(tower.blocks))) - tower.config.windowed_blocks)
            yield f"{signal}: expected blocks that attend to the whole picture, {whole}, found windows in {windowed}"


def _encoding_problems(policy: TokenPolicy, family: PerceivingFamily) -> Iterator[str]:
    """Name what hinders towers from encoding some patches beside what others left, and what then is not whole."""
    encoding = [number for number, cut in enumerate(policy.cuts) if cut.only_encodes]
    if not encoding:
        if EncodedAge() in _asked(policy):
            yield f"{EncodedAge()}: expected a cut that says which patches are encoded, found none"
        return
    if encoding != [0] or policy.cuts[0].index != 0:
        places = _places(policy.cuts)
        yield f"expected one cut that says which patches are encoded, before tower block 0, found {places}"
    if any(cut.place is Place.TOWER for cut in policy.cuts[1:]):
        yield "expected no patches to be dropped inside a tower that keeps those of the last step"
    for signal in _asked(policy):
        if isinstance(signal, (VisionAttention, VisionMap, VisionKeys)):
            yield f"{signal}: expected no signal of vision blocks, which compute some of the patches alone"
    for index, tower in enumerate(family.towers):
        if tower.config.windowed_blocks or tower.config.deep_blocks:
            yield (
                f"tower {index}: expected blocks in which every patch attends to all others, and features of the last "
                "one, found windows, or features of earlier ones"
            )


def _patch_problems(policy: TokenPolicy, family: PerceivingFamily) -> Iterator[str]:
    """Name what needs visual tokens to be patches, where they are rearranged or pooled."""
    for signal in _asked(policy):
        if isinstance(signal, Pixels) or (isinstance(signal, VisionMap) and not family.views_are_pictures):
            yield f"{signal}: expected visual tokens that are the tower's patches, found some rearranged or pooled"
    if any(cut.place is Place.TOWER for cut in policy.cuts):
        yield "expected no cut inside the tower, found one: its patches are rearranged or pooled afterwards"


def check_schedule(policy: TokenPolicy, counts: Sequence[int], grid: Grid) -> None:
    """Check the number of survivors of each cut.

    Raises:
        ExportError: The counts grow, lie out of range, or cannot be shared by the views inside a tower.
    """
    if len(counts) != len(policy.cuts):
        raise ExportError(
            f"policy {policy.name!r}: expected a count for each of {len(policy.cuts)} cuts, found {list(counts)}."
        )
    alive = grid.tokens
    for cut, count in zip(policy.cuts, counts, strict=True):
        if not 0 <= count <= alive or (cut.place is not Place.DECODER and count == 0):
            raise ExportError(
                f"policy {policy.name!r}: expected at most {alive} survivors, and some before the decoder, found "
                f"{list(counts)}."
            )
        if cut.place is Place.TOWER and count % grid.views:
            raise ExportError(
                f"policy {policy.name!r}: a cut inside a tower keeps equally many tokens of each view: expected a "
                f"multiple of {grid.views}, found {count}."
            )
        if not cut.only_encodes:
            alive = count


def _cut_problems(policy: TokenPolicy, shape: ModelShape) -> Iterator[str]:
    orders = [cut.order for cut in policy.cuts]
    if orders != sorted(set(orders)):
        yield f"expected cuts in order along the model, one in each place, found {_places(policy.cuts)}"
    for number, cut in enumerate(policy.cuts):
        limit = {Place.TOWER: shape.towers[0].blocks, Place.PROJECTOR: 1, Place.DECODER: shape.layers}[
            cut.place
        ]
        first = 1 if cut.place is Place.TOWER and not cut.only_encodes else 0
        if not first <= cut.index < limit:
            yield f"cut {number}: expected {cut.place.value} index {first}..{limit - 1}, found {cut.index}"
        if cut.place is Place.TOWER and len(shape.towers) > 1 and not cut.only_encodes:
            yield (
                f"cut {number}: expected one vision tower to cut inside of, found {len(shape.towers)} that must give "
                "the same tokens; cut at the projector"
            )
        alone_at_entry = (len(policy.cuts), cut.place, cut.index) == (1, Place.DECODER, 0)
        if cut.behind is Behind.LAST_STEP and not (cut.only_encodes or alone_at_entry):
            yield f"cut {number}: tokens of the last step can be used behind a single cut at the decoder's entry only"


def _signal_problems(signal: Signal, number: int, policy: TokenPolicy, shape: ModelShape) -> Iterator[str]:
    cut = policy.cuts[number]
    if isinstance(signal, (AttentionReceived, Transition, AttentionByRow)):
        layers = (signal.layer,) if isinstance(signal, AttentionByRow) else signal.layers
        limit = cut.index if cut.place is Place.DECODER else 0
        if not layers or not all(0 <= layer < limit for layer in layers):
            yield f"expected signals of decoder layers before the cut, 0..{limit - 1}, found {layers}"
    elif isinstance(signal, AttentionAhead):
        if cut.place is not Place.DECODER:
            yield f"attention ahead is that of a decoder layer, found a cut at the {cut.place.value}"
    elif isinstance(signal, (VisionAttention, VisionMap, VisionKeys)):
        yield from _vision_problems(signal, number, policy, shape)


def _vision_problems(
    signal: VisionAttention | VisionMap | VisionKeys, number: int, policy: TokenPolicy, shape: ModelShape
) -> Iterator[str]:
    cut = policy.cuts[number]
    if not 0 <= signal.tower < len(shape.towers):
        yield f"expected tower 0..{len(shape.towers) - 1}, found {signal.tower}"
        return
    tower = shape.towers[signal.tower]
    blocks = signal.blocks if isinstance(signal, VisionAttention) else (signal.block,)
    limit = cut.index if cut.place is Place.TOWER else tower.blocks
    if not blocks or not all(0 <= block < limit for block in blocks):
        yield f"expected signals of vision blocks before the cut, 0..{limit - 1}, found {blocks}"
    if isinstance(signal, VisionAttention) and signal.rows is VisionRows.CLASS and not tower.has_class_token:
        yield f"tower {signal.tower} has no class token; ask for the rows of its patches"
    if isinstance(signal, VisionMap) and number > 0:
        before = policy.cuts[number - 1]
        if before.place is not Place.TOWER or before.index > signal.block:
            yield f"a map is of the tokens alive in block {signal.block}, and a cut lies between it and this one"


def _update_problems(policy: TokenPolicy, shape: ModelShape) -> Iterator[str]:
    segments = set()
    ends = [cut.index for cut in policy.cuts if cut.place is Place.DECODER]
    for signal in policy.update_signals:
        if isinstance(signal, (AttentionByRow, AttentionAhead, VisionMap, ViewScores, EncodedAge)):
            yield f"update: expected attention received, transitions, vision attention, keys or pixels, found {signal}"
            continue
        if not isinstance(signal, (AttentionReceived, Transition)):
            cut_inside = any(cut.place is Place.TOWER and not cut.only_encodes for cut in policy.cuts)
            if not isinstance(signal, Pixels) and cut_inside:
                yield f"update: {signal} is not whole where the towers are cut"
            continue
        if not signal.layers or not all(0 <= layer < shape.layers for layer in signal.layers):
            yield f"update: expected signals of decoder layers 0..{shape.layers - 1}, found {signal.layers}"
        segments |= {sum(layer >= end for end in ends) for layer in signal.layers}
    if len(segments) > 1:
        yield (
            f"update: expected signals between the same two cuts, so that `present` has one meaning; cuts lie before "
            f"layers {ends}"
        )


def _places(cuts: Sequence[Cut]) -> list[str]:
    return [f"{cut.place.value} {cut.index}" for cut in cuts]
