from dataclasses import replace
from pathlib import Path

import pytest

from saccade.proto.closed_loop import ClosedLoopReceipt, Outcomes
from saccade.proto.errors import ServeError, UnknownProfileError
from saccade.proto.manifest import Manifest, read_manifest
from saccade.runtime.deadline.allowed import allowed_profiles


def with_receipt(bundle: Path, **outcomes: dict[str, Outcomes]) -> Manifest:
    return replace(read_manifest(bundle), closed_loop=ClosedLoopReceipt(outcomes))


def test_a_profile_that_kept_its_successes_in_each_task_is_allowed(tiny: Path) -> None:
    full = {"push": Outcomes(48, 50), "place": Outcomes(40, 50)}
    near = {"push": Outcomes(46, 50), "place": Outcomes(38, 50)}
    assert allowed_profiles(with_receipt(tiny, full=full, keep50=near)) == ("full", "keep50")
    far = {"push": Outcomes(50, 50), "place": Outcomes(37, 50)}
    with pytest.raises(ServeError, match="37 of 50 in place, where full had 40"):
        allowed_profiles(with_receipt(tiny, full=full, keep50=far))
    assert allowed_profiles(with_receipt(tiny, full=full, keep50=far), success_kept=0.9) == ("full", "keep50")


def test_a_receipt_that_proves_nothing_allows_nothing(tiny: Path) -> None:
    few = {"push": Outcomes(10, 10)}
    with pytest.raises(ServeError, match="10 episodes of push, fewer than 50"):
        allowed_profiles(with_receipt(tiny, full=few, keep50=few))
    with pytest.raises(ServeError, match="not run on the same tasks"):
        allowed_profiles(with_receipt(tiny, full={"push": Outcomes(50, 50)}))
    with pytest.raises(
        ServeError, match=r"without a closed-loop receipt.*saccade sim run BUNDLE .*--receipt"
    ):
        allowed_profiles(read_manifest(tiny))


def test_the_operator_may_name_them(tiny: Path) -> None:
    assert allowed_profiles(read_manifest(tiny), ("keep50",)) == ("full", "keep50")
    with pytest.raises(UnknownProfileError, match="keep7"):
        allowed_profiles(read_manifest(tiny), ("keep7",))


def test_a_receipt_of_another_form_of_the_graphs_proves_nothing(tiny: Path) -> None:
    outcomes = {"full": {"push": Outcomes(48, 50)}, "keep50": {"push": Outcomes(48, 50)}}
    manifest = replace(read_manifest(tiny), closed_loop=ClosedLoopReceipt(outcomes, "cpu-int8"))
    assert allowed_profiles(manifest, lowering="cpu-int8") == ("full", "keep50")
    with pytest.raises(
        ServeError, match=r"of the lowering cpu-fp32, found one of cpu-int8.*--lowering cpu-fp32"
    ):
        allowed_profiles(manifest)
