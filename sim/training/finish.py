"""The end of training: a checkpoint in the family's layout, with the receipt that says how it was made.

A run keeps what its receipt needs in ``cloning/``: ``statistics.json``, which its model normalises with,
``shards.json``, which it was last trained on, and, where it goes on from a finished checkpoint, that one's receipt as
``before.json``.
"""

from __future__ import annotations

import json
import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from saccade.export.families.embodiment import Embodiment
from saccade.export.families.openvla_oft.checkpoint import save_checkpoint
from saccade.export.families.openvla_oft.model import OpenVlaOft
from saccade.proto.errors import CheckpointError
from saccade.proto.manifest import ActionSpec, LimitsSpec, VectorSpec
from saccade.proto.statistics import STATISTICS_NAME, Statistics
from saccade.sim.tabletop.arm import ACTION_NAMES, MAX_STEP_M, PROPRIO_NAMES
from saccade.sim.tabletop.cameras import VIEWS
from saccade.sim.tabletop.table import Table
from saccade.sim.tabletop.world import CONTROL_HZ
from saccade.sim.training.demonstrations import CHUNK
from saccade.sim.training.mini import Mini
from saccade.sim.training.stages import open_shards
from saccade.sim.training.statistics import measure_statistics, write_statistics

RECEIPT = "training.json"
_BEFORE = "before.json"
_SHARDS = "shards.json"
_MARGIN = 1.1


def begin_cloning(run: Path, table: Table, start: Path | None) -> None:
    """Settle what a cloning phase begins from; asked again on every resume, when it must be the same.

    Args:
        run: Working directory. ``cloning/statistics.json`` is the checkpoint's, or measured on the demonstrations.
        table: The table that the demonstrations were recorded on.
        start: A finished checkpoint to begin from; None = phase 1.

    Raises:
        CheckpointError: The phase was begun from something else before.
    """
    cloning = run / "cloning"
    cloning.mkdir(parents=True, exist_ok=True)
    receipt = (start / RECEIPT).read_text() if start is not None and (start / RECEIPT).exists() else None
    if not (cloning / STATISTICS_NAME).exists():
        if start is not None:
            shutil.copyfile(start / STATISTICS_NAME, cloning / STATISTICS_NAME)
        else:
            write_statistics(measure_statistics(open_shards(run / "data")[0]), cloning, table)
        if receipt is not None:
            (cloning / _BEFORE).write_text(receipt)
    before = (cloning / _BEFORE).read_text() if (cloning / _BEFORE).exists() else None
    if before != receipt:
        raise CheckpointError(
            f"expected to go on from what {cloning} began with, found {start or 'no checkpoint'}: begin a new --run."
        )
    shards = sorted(path.name for path in (run / "data").glob("demo_*[0-9]"))
    (cloning / _SHARDS).write_text(json.dumps(shards) + "\n")


def read_receipt(run: Path) -> dict[str, Any]:
    """Return logs and settings of each phase that was run, names of the data, and the receipt of what came before."""
    receipt: dict[str, Any] = {
        phase: {
            "log": [json.loads(line) for line in (run / phase / "log.jsonl").read_text().splitlines()],
            "config": json.loads((run / phase / "config.json").read_text()),
        }
        for phase in ("perception", "cloning")
        if (run / phase / "config.json").exists()
    }
    receipt["data"] = {"shards": json.loads((run / "cloning" / _SHARDS).read_text())}
    before = run / "cloning" / _BEFORE
    if before.exists():
        receipt["before"] = json.loads(before.read_text())
    return receipt


def write_checkpoint(
    mini: Mini,
    model: OpenVlaOft,
    tokenizer: Tokenizer,
    statistics: Statistics,
    receipt: dict[str, Any],
    out: Path,
) -> None:
    """Write weights, config, tokenizer, statistics and ``training.json`` to ``out``.

    Args:
        mini: What was trained.
        model: The trained model; auxiliary read-outs are not part of it.
        tokenizer: Tokenizer of the model.
        statistics: Scales that actions and proprioception were normalised with.
        receipt: Logs and settings of each phase.
        out: Directory to write; made if absent.
    """
    out.mkdir(parents=True, exist_ok=True)
    tokenizer_path = out / "tokenizer.json"
    tokenizer.save(str(tokenizer_path))
    save_checkpoint(
        model,
        out,
        embodiment=embodiment(mini),
        statistics=statistics.to_json(mini.table.data_set),
        tokenizer=tokenizer_path,
        dtype=torch.float16,  # half the size in the repository; actions move by far less than a clamp
    )
    machine = {
        "machine": platform.machine(),
        "processor": _processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "mujoco": version("mujoco"),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
    parameters = sum(parameter.numel() for parameter in model.parameters())
    (out / RECEIPT).write_text(
        json.dumps({"parameters": parameters, "hardware": machine, **receipt}, indent=1) + "\n"
    )


def embodiment(mini: Mini) -> Embodiment:
    """Return what a model's numbers mean on its robot, as ``embodiment.json`` says it.

    The limiter's range lies 10 % beyond where the arm saturates by itself: a regressed full-speed step overshoots by
    a hair all the time, and a clamp in the counters should mean something.
    """
    step = (_MARGIN * MAX_STEP_M,) * 3
    return Embodiment(
        name=mini.title,
        license="Apache-2.0",
        views=VIEWS,
        proprio=VectorSpec(PROPRIO_NAMES, ("m",) * len(PROPRIO_NAMES)),
        action=ActionSpec(
            names=ACTION_NAMES,
            units=("m", "m", "m", "open"),
            chunk=CHUNK,
            control_hz=CONTROL_HZ,
            convention="delta_ee",
        ),
        limits=LimitsSpec(
            low=(*(-limit for limit in step), 1.0 - _MARGIN),
            high=(*step, _MARGIN),
            max_change=(*(2 * limit for limit in step), _MARGIN),
        ),
        template="{instruction}",
        statistics_key=mini.table.data_set,
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} x {len(names)}" if names else platform.processor()
