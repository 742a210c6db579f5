"""A sentence about a machine says what its numbers say."""

from __future__ import annotations

from saccade.proto.devices import Device
from saccade.proto.inspection import Budget
from saccade.proto.roofline import DECODE, NATIVE, PRECISIONS, PREFILL, VISION, Part
from saccade.runtime.inspection.verdict import judge, three_figures

MACHINE = Device("toy", "Toy", 2e3, {"fp32": 2e3}, "fp32", "made up")
"""A MAC takes 1 ms, a weight 2 ms."""


def budgets(*parts: tuple[Part, ...]) -> tuple[Budget, ...]:
    ratios = (1.0, 0.25)
    return tuple(
        Budget("full" if ratio == 1.0 else "keep25", 1, ratio, each)
        for ratio, each in zip(ratios, parts, strict=False)
    )


def judged(*parts: tuple[Part, ...]) -> str:
    return judge(budgets(*parts), MACHINE, PRECISIONS[NATIVE]).sentence


def test_compute_bound_prefill_pays() -> None:
    verdict = judge(
        budgets((Part(VISION, 30, 1), Part(PREFILL, 100, 3)), (Part(VISION, 30, 1), Part(PREFILL, 25, 3))),
        MACHINE,
        PRECISIONS[NATIVE],
    )
    assert verdict.sentence == (
        "pruning pays, 130 ms -> 55.0 ms (2.36x) at 25 % of the visual tokens: prefill is compute-bound, 100 ms -> "
        "25.0 ms; vision comes before the cut, 30.0 ms."
    )
    assert verdict.pays and verdict.speedup == 130 / 55
    assert verdict.seconds == (0.13, 0.055)


def test_weights_are_the_floor() -> None:
    assert "prefill is compute-bound, 100 ms -> 40.0 ms, where reading its weights is the floor" in judged(
        (Part(PREFILL, 100, 20),), (Part(PREFILL, 25, 20),)
    )


def test_bandwidth_bound_decode_does_not_pay() -> None:
    decode = Part(DECODE, 7, 50, passes=2), Part(DECODE, 5, 50, passes=2)
    said = judged((Part(PREFILL, 10, 1), decode[0]), (Part(PREFILL, 4, 1), decode[1]))
    assert said == (
        "pruning does not pay, 210 ms -> 204 ms (1.03x) at 25 % of the visual tokens: prefill is compute-bound, "
        "10.0 ms -> 4.00 ms; decode is bandwidth-bound, 200 ms to read its weights against 7.00 ms to multiply at full."
    )


def test_a_little_is_said_to_be_little() -> None:
    said = judged((Part(DECODE, 1, 50, kv_values=10),), (Part(DECODE, 1, 50, kv_values=5),))
    assert said.startswith("pruning pays little, 120 ms -> 110 ms (1.09x)")
    assert "only its keys and values get fewer, not its weights" in said


def test_one_budget_has_no_verdict() -> None:
    verdict = judge(budgets((Part(PREFILL, 10, 1),)), MACHINE, PRECISIONS[NATIVE])
    assert (verdict.sentence, verdict.speedup, verdict.pays) == ("at least 10.0 ms.", 0.0, False)


def test_missing_arithmetic_is_said() -> None:
    verdict = judge(budgets((Part(PREFILL, 10, 1),)), MACHINE, PRECISIONS["fp8"])
    assert verdict.sentence == "it has no fp8 arithmetic, only fp32."
    assert verdict.bounds == () and not verdict.pays


def test_figures() -> None:
    found = [three_figures(value) for value in (12345.6, 123.4, 12.34, 1.234, 0.1234, 0.01234)]
    assert found == ["12,346", "123", "12.3", "1.23", "0.12", "0.0123"]
