"""Does pruning pay on a machine? The least times of every budget, and one plain sentence with the numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from saccade.proto.devices import Device
from saccade.proto.inspection import Budget
from saccade.proto.roofline import VISION, Bound, Precision, bounds, supports

PAYS, PAYS_LITTLE = 1.15, 1.05
"""Speed-ups from which on a policy pays, and pays a little."""
_LARGE = 0.2
"""Share of the whole from which on a part is worth naming."""


@dataclass(frozen=True)
class Verdict:
    """What the roofline says of one machine.

    Args:
        device: The machine.
        precision: Arithmetic and bytes of the quantised weights.
        bounds: Lower bound of each part, for each budget; empty where the machine lacks the arithmetic.
        speedup: How many times faster the smallest budget is than the largest; 0 where there is nothing to compare.
        sentence: The verdict in one sentence, for a person.
    """

    device: Device
    precision: Precision
    bounds: tuple[tuple[Bound, ...], ...]
    speedup: float
    sentence: str

    @property
    def seconds(self) -> tuple[float, ...]:
        """Least time of each budget, in seconds."""
        return tuple(total(each) for each in self.bounds)

    @property
    def pays(self) -> bool:
        """Whether the speed-up is worth a token-selection policy."""
        return self.speedup >= PAYS


def judge(budgets: Sequence[Budget], device: Device, precision: Precision) -> Verdict:
    """Return what the roofline says of one machine.

    Args:
        budgets: The model at each budget of visual tokens, largest first; at least one.
        device: The machine.
        precision: Arithmetic and bytes of the quantised weights.
    """
    if not supports(device, precision):
        has = ", ".join(device.peaks)
        return Verdict(device, precision, (), 0.0, f"it has no {precision.name} arithmetic, only {has}.")
    found = tuple(bounds(budget.parts, device, precision) for budget in budgets)
    if len(found) == 1:
        return Verdict(device, precision, found, 0.0, f"at least {_ms(total(found[0]))}.")
    full, pruned = found[0], found[-1]
    speedup = total(full) / total(pruned)
    if speedup >= PAYS:
        lead = "pruning pays"
    elif speedup >= PAYS_LITTLE:
        lead = "pruning pays little"
    else:
        lead = "pruning does not pay"
    times = f"{_ms(total(full))} -> {_ms(total(pruned))} ({speedup:.2f}x)"
    kept = f"at {100 * budgets[-1].keep_ratio:g} % of the visual tokens"
    reasons = "; ".join(_reasons(full, pruned))
    return Verdict(device, precision, found, speedup, f"{lead}, {times} {kept}: {reasons}.")


def total(each: Sequence[Bound]) -> float:
    """Return the time of all parts, one after the other."""
    return sum(bound.seconds for bound in each)


def three_figures(value: float) -> str:
    """Return a number in about three figures."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def _ms(seconds: float) -> str:
    return f"{three_figures(1e3 * seconds)} ms"


def _reasons(full: Sequence[Bound], pruned: Sequence[Bound]) -> Iterator[str]:
    """Name the part that saves most, and the large ones that fewer tokens do not shorten."""
    pairs = list(zip(full, pruned, strict=True))
    saver, shorter = max(pairs, key=lambda pair: pair[0].seconds - pair[1].seconds)
    saves = saver.seconds - shorter.seconds >= 0.01 * total(full)
    if saves:
        times = f"{_ms(saver.seconds)} -> {_ms(shorter.seconds)}"
        if not saver.is_compute_bound:
            yield f"{_name(saver)} is bandwidth-bound, {times}: only its keys and values get fewer, not its weights"
        elif shorter.is_compute_bound:
            yield f"{_name(saver)} is compute-bound, {times}"
        else:
            yield f"{_name(saver)} is compute-bound, {times}, where reading its weights is the floor"
    rest = [
        pair
        for pair in pairs
        if not (saves and pair[0] is saver) and pair[1].seconds >= _LARGE * total(pruned)
    ]
    for before, after in sorted(rest, key=lambda pair: -pair[0].seconds):
        if before.part == VISION and after.is_compute_bound:
            yield f"vision comes before the cut, {_ms(after.seconds)}"
        elif not after.is_compute_bound:
            yield (
                f"{_name(before)} is bandwidth-bound, {_ms(after.memory_s)} to read its weights against "
                f"{_ms(before.compute_s)} to multiply at full"
            )
    if not saves and not rest:
        yield "no single part stands out"


def _name(bound: Bound) -> str:
    return bound.part.replace("_", " ")
