"""A finished bundle in, the same with other forms of its graphs out: measured, lowered, judged, written whole."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx_ir as ir

from saccade.export.bundle.progress import Progress, Stopwatch
from saccade.export.bundle.receipts import write_receipt
from saccade.export.bundle.writer import BundleWriter, hash_file
from saccade.export.control.frames import FrameSpec, host_tensors, read_frames
from saccade.export.lowering.shared_weights import SharedWeights
from saccade.export.quantisation.few_bits import few_bits_form
from saccade.export.quantisation.half_precision import half_form
from saccade.export.quantisation.int8_search import Int8Search
from saccade.export.quantisation.judgement import ActionRuler, Judgement
from saccade.export.quantisation.request import Form, LowerReport, LowerRequest
from saccade.export.quantisation.trajectory import ProfileRunner, StepRecord, Tensors, trajectories
from saccade.proto.bundle_kind import BundleKind
from saccade.proto.bundle_layout import MANIFEST_NAME
from saccade.proto.errors import BundleIntegrityError, ExportError
from saccade.proto.lowering_spec import LoweringSpec
from saccade.proto.manifest import Manifest, read_manifest
from saccade.proto.profile_names import FULL_PROFILE
from saccade.proto.statistics import Statistics

CPU_INT8, INT4, INT3 = "cpu-int8", "int4", "int3"
GPU_FP16, GPU_FP16_OPSET23 = "gpu-fp16", "gpu-fp16-opset23"
_FEWEST_FRAMES = 8
_HELD_OUT = 4
"""One frame in so many is held out of calibration, and judges."""


@dataclass(frozen=True)
class _Measured:
    """A bundle, and its canonical control steps on recorded frames."""

    bundle: Path
    manifest: Manifest
    request: LowerRequest
    scratch: Path
    calibration: Mapping[str, Sequence[StepRecord]]
    held_out: Mapping[str, Sequence[StepRecord]]
    ruler: ActionRuler


def lower_bundle(request: LowerRequest, progress: Progress) -> LowerReport:
    """Write a bundle with more lowerings, or nothing.

    Args:
        request: What is asked for.
        progress: Told of each part of the work.

    Raises:
        ExportError: There is no such lowering, the bundle has it already or cannot take it, or there are few frames.
        BundleError: The bundle cannot be trusted.
        FileError: The operating system refuses.
    """
    watch = Stopwatch(progress)
    with BundleWriter(request.out, overwrite=request.overwrite) as writer:
        specs, judgements = [], {}
        with TemporaryDirectory(dir=writer.folder) as scratch:
            watch.start("verify bundle")
            manifest = _checked(request)
            watch.start("run canonical graphs")
            measured = _measure(request, manifest, Path(scratch))
            _copy(request.bundle, writer.folder, manifest)
            for name in request.lowerings:
                form = _LOWERINGS[name](measured, watch)
                watch.start(f"{name}: write")
                graphs = _write_graphs(writer.folder, manifest, name, form)
                specs.append(LoweringSpec(name, graphs, {**form.settings, "frames": _digest(request.frames)}))
                watch.start(f"{name}: judge on held-out frames")
                judgements[name] = _judge(measured, writer.folder, graphs)
                receipt = {"settings": form.settings, "profiles": judgements[name], "seconds": watch.seconds}
                write_receipt(writer.folder, f"lowering.{name}", receipt)
        written = writer.commit(
            lambda files: replace(manifest, files=dict(files), lowerings=(*manifest.lowerings, *specs))
        )
    watch.stop()
    return LowerReport(written, judgements, watch.seconds)


def _checked(request: LowerRequest) -> Manifest:
    """Return the manifest of a bundle whose files are what it lists, and which can be lowered as asked."""
    unknown = [name for name in request.lowerings if name not in _LOWERINGS]
    if unknown or not request.lowerings or len(set(request.lowerings)) != len(request.lowerings):
        raise ExportError(
            f"expected lowerings of {', '.join(_LOWERINGS)}, each named once, found "
            f"{', '.join(request.lowerings) or 'none'}."
        )
    manifest = read_manifest(request.bundle)
    for name, spec in manifest.files.items():
        path = request.bundle / name
        if not path.is_file() or path.is_symlink() or hash_file(path) != spec:
            raise BundleIntegrityError(
                f"{name}: expected the file that {MANIFEST_NAME} lists, found another or none: copy the bundle again."
            )
    if manifest.kind is not BundleKind.CONTROL or any(len(each.stages) != 1 for each in manifest.profiles):
        raise ExportError(
            f"expected a bundle that controls a robot, in one graph for each profile, found {manifest.name!r} of kind "
            f"{manifest.kind.value}: it cannot be lowered yet."
        )
    has = {lowering.name for lowering in manifest.lowerings} & set(request.lowerings)
    if has:
        raise ExportError(
            f"expected a bundle without {', '.join(sorted(has))}, found it there: lower the bundle that has it not."
        )
    return manifest


def _measure(request: LowerRequest, manifest: Manifest, scratch: Path) -> _Measured:
    spec = FrameSpec.of_bundle(request.bundle, manifest)
    recording = read_frames(request.frames, spec)
    frames: list[Tensors] = [
        {name: tensor.numpy() for name, tensor in tensors.items()}
        for tensors in host_tensors(recording, spec)
    ]
    if len(frames) < _FEWEST_FRAMES + manifest.policy.warmup_steps:
        raise ExportError(
            f"{request.frames.name}: expected at least {_FEWEST_FRAMES + manifest.policy.warmup_steps} consecutive "
            f"frames, found {len(frames)}: record more."
        )
    profiles = [profile.name for profile in manifest.profiles]
    records = trajectories(request.bundle, manifest, frames, profiles)
    statistics = Statistics.read(
        request.bundle / manifest.statistics,
        manifest.statistics_key,
        action_dim=manifest.action.dim,
        proprio_dim=manifest.proprio.dim,
    )
    return _Measured(
        request.bundle,
        manifest,
        request,
        scratch,
        {
            name: [each for place, each in enumerate(steps) if place % _HELD_OUT]
            for name, steps in records.items()
        },
        {name: steps[::_HELD_OUT] for name, steps in records.items()},
        ActionRuler(statistics.action),
    )


def _to_int8(measured: _Measured, watch: Stopwatch) -> Form:
    watch.start(f"{CPU_INT8}: activations")
    smallest = min(measured.manifest.profiles, key=lambda profile: profile.keep).name
    search = Int8Search(
        measured.bundle,
        measured.manifest,
        measured.calibration,
        measured.ruler,
        list(dict.fromkeys((FULL_PROFILE, smallest))),
    )

    def tell(what: str, done: int, total: int) -> None:
        watch.start(f"{CPU_INT8}: {what}, {done} of {total}")

    sensitivities = search.sensitivities(tell)
    choice = search.largest_within(sensitivities, measured.request.budget, tell)
    if not choice.groups:
        raise ExportError(
            f"expected products that can be int8 within {measured.request.budget:.1%} of an action's range, found "
            "none: raise --budget."
        )
    share = {each.group.products[0]: each.share for each in sensitivities}
    settings = {
        "passes": ["smoothing", "int8"] if choice.smoothing else ["int8"],
        "budget": measured.request.budget,
        "int8": sorted(name for group in choice.groups for name in group.products),
        "float32": {
            name: f"alone {share[group.products[0]]:.2%} of an action's range"
            for group in search.groups
            if group not in choice.groups
            for name in group.products
        },
        "is_linted": False,
    }
    return Form(settings, lambda graph, model: choice.apply(model))


def _to_few_bits(measured: _Measured, watch: Stopwatch, name: str, bits: int) -> Form:
    return few_bits_form(
        measured.request,
        measured.manifest,
        measured.calibration,
        bits=bits,
        scratch=measured.scratch / name,
        tell=watch.counted(f"{name}: {measured.request.rounding}", "weights"),
    )


def _to_int4(measured: _Measured, watch: Stopwatch) -> Form:
    return _to_few_bits(measured, watch, INT4, 4)


def _to_int3(measured: _Measured, watch: Stopwatch) -> Form:
    return _to_few_bits(measured, watch, INT3, 3)


def _to_float16(measured: _Measured, watch: Stopwatch) -> Form:
    watch.start(f"{GPU_FP16}: ranges")
    return half_form(measured.bundle, measured.manifest, measured.calibration, is_fused=False)


def _to_float16_opset23(measured: _Measured, watch: Stopwatch) -> Form:
    watch.start(f"{GPU_FP16_OPSET23}: ranges")
    return half_form(measured.bundle, measured.manifest, measured.calibration, is_fused=True)


_LOWERINGS: Mapping[str, Callable[[_Measured, Stopwatch], Form]] = {
    CPU_INT8: _to_int8,
    INT4: _to_int4,
    INT3: _to_int3,
    GPU_FP16: _to_float16,
    GPU_FP16_OPSET23: _to_float16_opset23,
}
LOWERINGS = tuple(_LOWERINGS)
"""Names of the lowerings that can be made."""


def _copy(bundle: Path, folder: Path, manifest: Manifest) -> None:
    for name in manifest.files:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle / name, target)


def _write_graphs(folder: Path, manifest: Manifest, name: str, form: Form) -> dict[str, str]:
    """Write the lowered graphs beside the canonical ones, and return their paths by those of the canonical ones."""
    paths: dict[str, str] = {}
    parents = {os.path.dirname(graph) for graph in manifest.graphs}
    (parent,) = parents  # the recipe writes all graphs to one folder
    with SharedWeights(folder / parent, f"weights.{name}.bin") as weights:
        for graph in manifest.graphs:
            model = ir.load((form.source or folder) / graph)
            form.apply(graph, model)
            weights.adopt(model)
            paths[graph] = f"{graph.removesuffix('.onnx')}.{name}.onnx"
            ir.save(model, folder / paths[graph])
    return paths


def _judge(measured: _Measured, folder: Path, graphs: Mapping[str, str]) -> dict[str, Judgement]:
    found = {}
    for profile in measured.manifest.profiles:
        lowered = replace(
            profile, stages=tuple(replace(stage, graph=graphs[stage.graph]) for stage in profile.stages)
        )
        runner = ProfileRunner(folder, measured.manifest, lowered)
        found[profile.name] = measured.ruler.judge(measured.held_out[profile.name], runner)
    return found


def _digest(path: Path) -> dict[str, str]:
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
