"""Several workers share one study: together they try what was asked for, and end in the same best options."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState

from saccade.export.control.frames import synthetic_recording
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.tuning.study import counted, open_study, take
from saccade.proto.errors import ExportError, FileError

_WORKER = "from saccade.runtime.commands.main import main; main()"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["journal", "database"])
def test_two_workers_share_a_study(
    kind: str, checkpoint: Checkpoint, checkpoint_path: Path, tmp_path: Path
) -> None:
    recording, frames, trials = synthetic_recording(checkpoint, 7), tmp_path / "frames.npz", 8
    told = np.array(recording.instruction, dtype=np.str_)
    np.savez(frames, images=recording.images, proprio=recording.proprio, instruction=told)
    place = str(tmp_path / "shared.journal") if kind == "journal" else f"sqlite:///{tmp_path}/shared.db"
    command = [
        sys.executable,
        "-c",
        _WORKER,
        "tune",
        str(checkpoint_path),
        "--policy",
        "vla_pruner",
        "--keep",
        "0.5",
    ]
    command += [
        "--frames",
        str(frames),
        "--objective",
        "action_error",
        "--trials",
        str(trials),
        "--study",
        place,
    ]
    workers = [
        subprocess.Popen(
            [*command, "--out", str(tmp_path / f"{name}.json")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("one", "other")
    ]
    for worker in workers:
        _, said = worker.communicate()
        assert worker.returncode == 0, said

    if kind == "journal":
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(place))
        study = optuna.load_study(study_name="saccade-tune", storage=storage)
        found, best = counted(study), study.best_value
    else:
        database = optuna.storages.RDBStorage(place)
        study = optuna.load_study(study_name="saccade-tune vla_pruner 0.5", storage=database)
        found, best = counted(study), study.best_value
        database.remove_session()
        database.engine.dispose()
    assert len(found) == trials
    assert all(trial.state in {TrialState.COMPLETE, TrialState.PRUNED} for trial in found)
    drawn = [json.dumps(trial.params, sort_keys=True) for trial in found]
    assert len(set(drawn)) > trials / 2  # workers of one seed would draw everything twice
    results = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "other")]
    assert max(result["trials"] for result in results) == trials
    last = max(results, key=lambda result: result["trials"])
    assert last["value"] == pytest.approx(min(best, last["default_value"]))


@pytest.fixture
def study(tmp_path: Path) -> optuna.Study:
    return open_study(
        str(tmp_path / "x.journal"), "x", {"a": 1}, optuna.samplers.RandomSampler(), wants_more=True
    )


def test_no_more_trials_are_taken_than_asked_for(study: optuna.Study) -> None:
    first, second = take(study, 2), take(study, 2)
    assert first is not None and second is not None and take(study, 2) is None
    study.tell(first, 1.0)
    study.tell(second, state=TrialState.PRUNED)
    assert take(study, 2) is None and take(study, 3) is not None


def test_whoever_comes_too_late_gives_way(study: optuna.Study, tmp_path: Path) -> None:
    """The other worker asks between this one's look and its question."""
    other = open_study(
        str(tmp_path / "x.journal"), "x", {"a": 1}, optuna.samplers.RandomSampler(), wants_more=True
    )

    class Between(optuna.Study):
        def ask(self) -> optuna.Trial:  # type: ignore[override]
            other.ask()
            return super().ask()

    study.__class__ = Between
    assert take(study, 1) is None
    assert [trial.state for trial in study.trials] == [TrialState.RUNNING, TrialState.FAIL]
    assert len(counted(study)) == 1


def test_another_search_is_refused(study: optuna.Study, tmp_path: Path) -> None:
    del study
    with pytest.raises(
        ExportError, match=r"x\.journal: expected the journal of this search, found one of \{'a': 1\}"
    ):
        open_study(
            str(tmp_path / "x.journal"), "x", {"a": 2}, optuna.samplers.RandomSampler(), wants_more=True
        )


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nonsense://here", r"at nonsense://here, found NoSuchModuleError"),
        ("sqlite:////nowhere/at/all.db", r"at sqlite:////nowhere/at/all\.db, found OperationalError"),
        ("postgresql+nodriver://me:secret@host/db", r"at postgresql\+nodriver://me:\*\*\*@host/db, found"),
        ("://", r"found ArgumentError"),
    ],
)
def test_a_database_that_is_not_there_is_an_error(place: str, message: str) -> None:
    with pytest.raises(ExportError, match=message) as refused:
        open_study(place, "x", {}, optuna.samplers.RandomSampler(), wants_more=True)
    assert "secret" not in refused.value.message and "name a journal file instead" in refused.value.message


def test_a_journal_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError):
        open_study(str(tmp_path / "file" / "x"), "x", {}, optuna.samplers.RandomSampler(), wants_more=True)
