"""What an operator wants to know of a machine before the robot is switched on."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from saccade.proto.distribution import VERSION, install_hint
from saccade.proto.errors import PlanError, SaccadeError
from saccade.proto.file_errors import file_error
from saccade.runtime.binding import check_bind
from saccade.runtime.bundle import Bundle
from saccade.runtime.cores import usable_cores
from saccade.runtime.engines.registry import ENGINES, open_backend, why_not
from saccade.runtime.program import ProgramExecutor
from saccade.runtime.real_time import what_is_allowed
from saccade.runtime.waking import told_waking

_PACKAGES = ("numpy", "onnxruntime", "grpcio", "protobuf", "pyzmq", "tokenizers")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, and whether it is as it should be.

    Args:
        subject: What was looked at, e.g. ``python``.
        is_ok: Whether it is as it should be.
        detail: What was found, or what is wrong and what to do.
    """

    subject: str
    is_ok: bool
    detail: str


def examine(bundle: Path | None, bind: str) -> list[Finding]:
    """Look at the machine, at its engines, at the address, and at the bundle, on every engine, if there is one.

    Args:
        bundle: Directory of the bundle; None = none to look at.
        bind: ``host:port`` that a daemon is to listen on.
    """
    findings = [
        Finding("machine", True, f"{platform.machine()}, {usable_cores()} usable cores, {platform.system()}"),
        Finding("real time", True, what_is_allowed()),
        Finding("waking", True, told_waking()),
        Finding("python", True, platform.python_version()),
        Finding("saccade", True, VERSION),
        *(_package(name) for name in _PACKAGES),
        _attempt("address", lambda: _check_address(bind)),
    ]
    opened: list[Bundle] = []
    if bundle is not None:
        findings.append(_attempt("bundle", lambda: _open(bundle, opened)))
    return findings + [
        _attempt(f"engine {name}", partial(_check_engine, name, opened))
        if (reason := why_not(name)) is None
        else Finding(f"engine {name}", True, f"not used here: {reason}")
        for name in ENGINES
    ]


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, version(name))
    except PackageNotFoundError:
        pass
    for other in packages_distributions().get(name, ()):  # the same module, built for another machine
        return Finding(name, True, f"{version(other)}, as {other}")
    return Finding(name, False, f"not installed: {install_hint('serve')}")


def _attempt(subject: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, True, check())
    except SaccadeError as error:
        return Finding(subject, False, error.message)
    except OSError as error:
        return Finding(subject, False, file_error(error).message)


def _check_address(bind: str) -> str:
    check_bind(bind, is_insecure_allowed=False)
    return f"{bind} is free"


def _open(path: Path, opened: list[Bundle]) -> str:
    opened.append(Bundle.open(path))
    return "verified"


def _check_engine(name: str, bundles: list[Bundle]) -> str:
    """Load an engine, and run every profile of the bundle on it if there is one."""
    with open_backend(name) as backend:
        if not bundles:
            return "ready"
        (bundle,) = bundles
        try:
            program = ProgramExecutor(bundle, backend)
        except PlanError as error:
            return f"ready, but nothing was run: {error.message}"
        program.warm_up()
        times_ms = []
        for profile in bundle.manifest.profiles:
            started = time.monotonic_ns()
            program.step(profile.name, {})
            times_ms.append(f"{profile.name} {(time.monotonic_ns() - started) / 1e6:.1f} ms")
    return f"every profile runs: {', '.join(times_ms)}"
