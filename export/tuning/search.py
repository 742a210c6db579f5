"""Bayesian search of a policy's options: a Gaussian process proposes, recorded frames judge.

Source:
    VFlowOpt (2508.05211): Gaussian-process optimisation with expected improvement on unlabelled samples. The optimiser
    is Optuna's ``GPSampler`` (log expected improvement); trials live in its own storage, so a search that was cut off
    goes on where it stopped, and several workers may share one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import optuna
from torch import Tensor

from saccade.export.control.calibration import PolicyBuilder
from saccade.export.control.frames import host_inputs, read_recording
from saccade.export.control.tuned import Tuned
from saccade.export.families.base import ActingFamily, StepKind
from saccade.export.families.checkpoint import Checkpoint
from saccade.export.families.reader import AnsweringReader
from saccade.export.families.registry import find_reader, load_checkpoint
from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.steps.acting_step import ActingStep, StepOutputs
from saccade.export.steps.step_of import acting_step
from saccade.export.tuning.objectives import OBJECTIVES, discrepancy, unpruned
from saccade.export.tuning.study import counted, is_database, open_study, take
from saccade.policies.base import TokenPolicy
from saccade.policies.config import Tunable, search_space
from saccade.policies.registry import build_policy, policy_class
from saccade.proto.distribution import VERSION
from saccade.proto.errors import ExportError, PolicyError
from saccade.proto.file_errors import naming

_STARTUP_TRIALS = 10
_PACKAGES = ("torch", "optuna")
_STUDY = "saccade-tune"


@dataclass(frozen=True, kw_only=True)
class TuneRequest:
    """What to search, and on what.

    Args:
        checkpoint: Folder of the checkpoint.
        policy: Registry name of the policy.
        keep_ratio: Keep ratio of the profile that options are searched for.
        frames: Recorded frames of one stream (``.npz``).
        study: Where trials are kept, path of a journal or URL of a database; a search with the same settings goes on
            there.
        is_shared: Whether other workers search there too: then each draws by a seed of its own.
        options: Fixed options; the others that are tunable are searched.
        objective: A key of ``OBJECTIVES``.
        trials: Number of trials in all, those of an earlier run and of other workers included.
        seed: Seed of the sampler.
        tokenizer: A ``tokenizer.json``, or a folder with one; None = the checkpoint's own.
        head_step: Training step of the heads, where the checkpoint has several; None = the only one.
    """

    checkpoint: Path
    policy: str
    keep_ratio: float
    frames: Path
    study: str
    is_shared: bool = False
    options: Mapping[str, object] = field(default_factory=dict)
    objective: str = "action_query"
    trials: int = 50
    seed: int = 0
    tokenizer: Path | None = None
    head_step: str | None = None


class Progress(Protocol):
    """Told how a search goes, after each trial."""

    def __call__(self, done: int, trials: int, best: float | None, default: float) -> None:
        """``best`` is None until some trial could be evaluated."""
        ...


def tune(request: TuneRequest, progress: Progress) -> Tuned:
    """Search the tunable options of a policy.

    Raises:
        SaccadeError: Something does not fit: nothing to search, an unknown name, frames of another model, a journal of
            another search, or no trial that the policy accepts.
    """
    bench = _Bench(request)
    study = _study(request, bench)
    default = bench.evaluate(request.options)
    progress(len(counted(study)), request.trials, _best(study), default)
    while (trial := take(study, request.trials)) is not None:
        options = {name: _suggest(trial, name, tunable) for name, tunable in bench.space.items()}
        try:
            study.tell(trial, bench.evaluate({**request.options, **options}))
        except (PolicyError, ExportError) as error:
            trial.set_user_attr("refused", error.message)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        progress(len(counted(study)), request.trials, _best(study), default)
    return _result(request, bench, study, default)


class _Bench:
    """The checkpoint, the frames and what the unpruned model makes of them."""

    def __init__(self, request: TuneRequest) -> None:
        if request.objective not in OBJECTIVES:
            raise ExportError(
                f"expected an objective of {', '.join(OBJECTIVES)}, found {request.objective!r}."
            )
        if not 0 < request.keep_ratio < 1:
            raise ExportError(f"expected a keep ratio between 0 and 1, found {request.keep_ratio}.")
        self.request, self.objective = request, OBJECTIVES[request.objective]
        self.checkpoint: Checkpoint[ActingFamily] = _read(request)
        self.space = {
            name: tunable
            for name, tunable in search_space(
                policy_class(request.policy).options, self.checkpoint.model.grid.units
            ).items()
            if name not in request.options
        }
        if not self.space:
            raise ExportError(
                f"policy {request.policy!r}: expected options to search, found none that is not fixed already."
            )
        if self.objective.reads_prompt and self.checkpoint.model.step_kind is StepKind.FLOW:
            raise ExportError(
                f"objective {request.objective!r}: expected a family that reads actions from its prompt's pass, "
                f"found {self.checkpoint.family!r}; take another objective."
            )
        recording = read_recording(request.frames, self.checkpoint)
        self.frames: Sequence[tuple[Tensor, ...]] = list(host_inputs(recording, self.checkpoint))
        self.policies = PolicyBuilder(self.checkpoint.model, self.frames)
        self.shape = self.policies.shape
        everything = build_policy("keep_all", {}, self.shape)
        self.whole: list[StepOutputs] = unpruned(self.step(everything, self.shape.grid.tokens), self.frames)

    @property
    def budget(self) -> int:
        """Visual tokens of the profile."""
        return max(1, round(self.request.keep_ratio * self.shape.grid.tokens))

    def evaluate(self, options: Mapping[str, object]) -> float:
        """Return the objective's value for some options."""
        policy = self.policies.build(self.request.policy, options).policy
        if policy.warmup_steps >= len(self.frames):
            raise ExportError(
                f"expected more frames than the {policy.warmup_steps} of the policy's warm-up, found "
                f"{len(self.frames)}."
            )
        step, full = self.step(policy, self.budget), self.step(policy, self.shape.grid.tokens)
        return discrepancy(self.objective, step, full, self.frames, self.whole)

    def step(self, policy: TokenPolicy, keep: int) -> ActingStep[ActingFamily]:
        """Return the model with a policy in it."""
        return acting_step(self.checkpoint.model, policy, keep)


def _read(request: TuneRequest) -> Checkpoint[ActingFamily]:
    """Read the checkpoint; one that answers is refused with the reason."""
    reader = find_reader(CheckpointFolder(request.checkpoint))
    if isinstance(reader, AnsweringReader):
        raise ExportError(
            f"expected a family that acts, found {reader.name!r}, which answers questions: a search is judged on "
            "recorded control steps, and there are no recorded questions. Choose options by hand: `saccade "
            "export-answering --policy-option`."
        )
    return load_checkpoint(request.checkpoint, tokenizer=request.tokenizer, head_step=request.head_step)


def _study(request: TuneRequest, bench: _Bench) -> optuna.Study:
    """Open the study, or begin it."""
    settings = {
        "policy": request.policy,
        "keep_ratio": request.keep_ratio,
        "objective": request.objective,
        "options": dict(request.options),
        "frames": _sha256(request.frames),
        "checkpoint": weights_sha256(request.checkpoint),
        "space": {name: str(tunable) for name, tunable in bench.space.items()},
    }
    if request.tokenizer is not None:
        settings["tokenizer"] = _sha256(bench.checkpoint.tokenizer)
    sampler = optuna.samplers.GPSampler(seed=request.seed, n_startup_trials=_STARTUP_TRIALS)
    if request.is_shared:
        sampler.reseed_rng()
    # A journal holds one search, a database may hold many.
    name = f"{_STUDY} {request.policy} {request.keep_ratio:g}" if is_database(request.study) else _STUDY
    return open_study(request.study, name, settings, sampler, wants_more=bench.objective.wants_more)


def _suggest(trial: optuna.Trial, name: str, tunable: Tunable) -> object:
    if tunable.choices:
        chosen: object = trial.suggest_categorical(name, list(tunable.choices))  # type: ignore[arg-type]
        return chosen
    if tunable.kind == "int":
        return trial.suggest_int(name, int(tunable.low), int(tunable.high))
    return trial.suggest_float(name, tunable.low, tunable.high)


def _best(study: optuna.Study) -> float | None:
    values = [trial.value for trial in study.trials if trial.state is optuna.trial.TrialState.COMPLETE]
    if not values:
        return None
    return study.best_value


def _result(request: TuneRequest, bench: _Bench, study: optuna.Study, default: float) -> Tuned:
    evaluated = [trial for trial in study.trials if trial.state.is_finished()]
    evaluated = [trial for trial in evaluated if trial.state is not optuna.trial.TrialState.FAIL]
    refused = [trial for trial in evaluated if trial.state is optuna.trial.TrialState.PRUNED]
    best = _best(study)
    if best is None:
        why = refused[-1].user_attrs.get("refused", "unknown") if refused else "none was run"
        raise ExportError(
            f"expected a trial that the policy accepts, found none of {len(evaluated)}; last: {why}"
        )
    improves = best > default if bench.objective.wants_more else best < default
    chosen: dict[str, Any] = dict(request.options)
    if improves:
        chosen |= study.best_params
    policy = bench.policies.build(request.policy, chosen).policy
    return Tuned(
        policy=request.policy,
        keep_ratio=request.keep_ratio,
        options=json.loads(json.dumps(policy.config.as_dict())),
        objective=request.objective,
        value=best if improves else default,
        default_value=default,
        trials=len(evaluated),
        refused=len(refused),
        frames=len(bench.frames),
        frames_sha256=_sha256(request.frames),
        checkpoint=bench.checkpoint.embodiment.name,
        checkpoint_sha256=weights_sha256(request.checkpoint),
        seed=request.seed,
        versions={"saccade": VERSION} | {name: version(name) for name in _PACKAGES},
    )


def weights_sha256(checkpoint: Path) -> str:
    """Return one digest of every weight file of a checkpoint folder."""
    digest = hashlib.sha256()
    for file in sorted(checkpoint.glob("*.safetensors")):
        digest.update(file.name.encode() + bytes.fromhex(_sha256(file)))
    return digest.hexdigest()


def _sha256(path: Path) -> str:
    with naming(path):
        return hashlib.sha256(path.read_bytes()).hexdigest()
