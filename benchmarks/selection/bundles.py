"""One bundle for each contender, exported once and again only if its options or the code that exports it changed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from importlib.resources import files
from pathlib import Path

from benchmarks.selection.contenders import TUNED, Contender
from saccade.export.control.pipeline import ExportRequest, export_bundle
from saccade.export.scorer.pipeline import ScorerRequest, export_scorer
from saccade.proto.errors import SaccadeError

FINGERPRINT = "exported_from.txt"
MINI = Path(str(files("saccade.sim") / "saccade_mini"))


def export_all(
    contenders: Iterable[Contender],
    folder: Path,
    ratios: tuple[float, ...],
    say: Callable[[str], None],
    *,
    checkpoint: Path = MINI / "checkpoint",
    frames: Path | None = MINI / "frames.npz",
) -> dict[str, Path]:
    """Export the bundles that are missing or stale.

    Args:
        contenders: Contenders that get a bundle each.
        folder: Folder that the bundles lie in.
        ratios: Keep ratios, 1.0 among them.
        say: Told what happens, in words.
        checkpoint: Folder of the checkpoint that is exported.
        frames: Recorded frames for the parity check; None draws synthetic ones.

    Returns:
        Folder of each bundle, by the contender's label.

    Raises:
        SaccadeError: A policy does not fit the model; the message names the contender.
    """
    bundles = {}
    for contender in contenders:
        out = folder / re.sub(r"[^a-z0-9.]+", "_", contender.label.lower())
        mark = folder / f"{out.name}.{FINGERPRINT}"
        tuned = _searches(contender, ratios)
        found = [path.read_text(encoding="utf-8") for path in tuned]
        code = _digest(contender.policy, checkpoint)
        wanted = json.dumps([contender.policy, dict(contender.options), ratios, code, *found], sort_keys=True)
        bundles[contender.label] = out
        if out.is_dir() and mark.is_file() and mark.read_text(encoding="utf-8") == wanted:
            continue
        say(f"export {contender.label}")
        request = ExportRequest(
            checkpoint=checkpoint,
            out=out,
            policy=contender.policy,
            options=contender.options,
            tuned=tuned,
            keep_ratios=ratios,
            frames=frames,
            overwrite=True,
        )
        folder.mkdir(parents=True, exist_ok=True)
        try:
            export_bundle(request, lambda what: None)
            if contender.has_scorer:
                scorer = out.with_name(f"{out.name}.scorer")
                wanted_scorer = ScorerRequest(
                    checkpoint=checkpoint, out=scorer, frames=frames, overwrite=True
                )
                export_scorer(wanted_scorer, lambda what: None)
        except SaccadeError as error:
            raise type(error)(f"{contender.label}: {error.message}") from error
        mark.write_text(wanted, encoding="utf-8")
    return bundles


def _searches(contender: Contender, ratios: tuple[float, ...]) -> list[Path]:
    """Return the result of a search for each budget, nothing for a contender that is not tuned."""
    if not contender.is_tuned:
        return []
    return [TUNED / f"{contender.policy}-{ratio}.json" for ratio in ratios if ratio < 1]


def _digest(policy: str, checkpoint: Path) -> str:
    """Digest of the code that decides what is in a bundle, other methods left out, and of the weights."""
    digest = hashlib.sha256()
    for package in ("saccade.export", "saccade.policies", "saccade.proto"):
        root = Path(str(files(package)))
        for path in sorted(root.rglob("*.py")):
            if path.parent.name == "methods" and path.stem != policy:
                continue
            digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    for path in sorted(checkpoint.glob("*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
