"""The models that engines are timed with: the bundled one, and two of published shapes, as large as the machine holds.

The weights of the latter are random: sizes, graphs and files are the published ones', the answers mean nothing. What a
step costs does not depend on the weights.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import click

from benchmarks import random_oft, random_smolvla
from saccade.export.bundle.progress import Progress
from saccade.export.control.pipeline import ExportRequest, export_bundle
from saccade.export.families.smolvla.model import build

MINI, SMOLVLA, OFT = "saccade-mini", "smolvla-shaped", "oft-shaped"
KEEP = (1.0, 0.5, 0.25, 0.125)
_FLOAT32_BYTES = 4
_TRANSIENT_COPIES = 2
"""Copies of the weights that an export and a loading engine hold besides."""
_SHARE = 0.8
"""Share of the free memory that may be used."""


_OFT_TOWERS = ({"width": 1024, "depth": 24, "mlp_dim": 4096}, {"width": 1152, "depth": 27, "mlp_dim": 4304})
"""DINOv2-L and SigLIP-So400m, as published."""
_OFT_WORDS, _OFT_ACTIONS = 32064, 9
"""Rows of the embedding; squares of the width in the action head and the projector of proprioception, roughly."""


@dataclass(frozen=True)
class Size:
    """One size of a published shape.

    Args:
        name: What it is called, e.g. ``7b``.
        tokens: Tokens that the decoder computes in a full step, roughly.
        parameters: Returns how many weights it has, within a few per cent.
        write: Writes its checkpoint to a folder that does not exist yet.
    """

    name: str
    tokens: int
    parameters: Callable[[], int]
    write: Callable[[Path], object]


@dataclass(frozen=True)
class Subject:
    """A model on disk.

    Args:
        name: Name of the model.
        size: Name of its size; empty for the bundled one.
        checkpoint: Folder that PyTorch loads.
        bundle: Folder that engines load.
        has_random_weights: Whether its answers mean nothing.
    """

    name: str
    size: str
    checkpoint: Path
    bundle: Path
    has_random_weights: bool


def prepare(name: str, folder: Path, size: Size | None, policy: str, progress: Progress) -> Subject:
    """Return a model, exported with profiles of 100, 50, 25 and 12.5 % of its visual tokens.

    Args:
        name: One of :data:`MINI`, :data:`SMOLVLA` and :data:`OFT`.
        folder: Folder for what is written.
        size: Its size; None for the bundled model.
        policy: Token-selection policy.
        progress: Told of each part of the work.

    Raises:
        SaccadeError: The export failed.
    """
    if size is None:
        place = Path(str(files("saccade.sim") / "saccade_mini"))
        return Subject(name, "", place / "checkpoint", place / "bundle", has_random_weights=False)
    checkpoint, bundle = folder / f"{name}.{size.name}", folder / f"{name}.{size.name}.bundle"
    if not bundle.is_dir():
        progress(f"{name}, {size.name}: write the checkpoint")
        size.write(checkpoint)
        request = ExportRequest(checkpoint=checkpoint, out=bundle, policy=policy, keep_ratios=KEEP, name=name)
        export_bundle(request, progress)
    return Subject(name, size.name, checkpoint, bundle, has_random_weights=True)


def choose(
    sizes: Sequence[Size], *, memory_bytes: int, copies: int, flops: float, most_step_s: float
) -> Size:
    """Return the largest size that fits, the smallest if none does.

    Args:
        sizes: Sizes, the largest first.
        memory_bytes: Memory that is free, bytes.
        copies: How many copies of the weights the ways to run it hold together.
        flops: What the machine computes at best, FLOP a second.
        most_step_s: Longest full step that is worth waiting for, by that peak, seconds.
    """
    for size in sizes[:-1]:
        parameters = size.parameters()
        need = _FLOAT32_BYTES * parameters * (copies + _TRANSIENT_COPIES)
        if need <= _SHARE * memory_bytes and 2 * parameters * size.tokens <= most_step_s * flops:
            return size
    return sizes[-1]


def named(sizes: Sequence[Size], name: str) -> Size:
    """Return the size of a name.

    Raises:
        ClickException: There is none.
    """
    for size in sizes:
        if size.name == name:
            return size
    raise click.ClickException(
        f"expected a size of {', '.join(size.name for size in sizes)}, found {name!r}."
    )


def free_memory_bytes() -> int:
    """Return the memory that new programs may have on Linux, bytes."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("MemAvailable:"))
    return int(kib) * 1024


def _oft(
    name: str, text: Mapping[str, int], towers: tuple[Mapping[str, int], Mapping[str, int]] = ({}, {})
) -> Size:
    """Return an OpenVLA-OFT of two cameras, with 512 visual tokens of 224-pixel pictures."""
    shape = random_oft.Shape(text=text, towers=towers, views=2)

    def parameters() -> int:
        width, mlp = text.get("hidden_size", 4096), text.get("intermediate_size", 11008)
        decoder = text.get("num_hidden_layers", 32) * (4 * width**2 + 3 * width * mlp) + _OFT_WORDS * width
        seen = [{**published, **tower} for published, tower in zip(_OFT_TOWERS, towers, strict=True)]
        vision = sum(
            tower["depth"] * (4 * tower["width"] ** 2 + 2 * tower["width"] * tower["mlp_dim"])
            for tower in seen
        )
        both = sum(tower["width"] for tower in seen)
        projector = 4 * both**2 + 4 * both * width + width**2
        return decoder + vision + projector + _OFT_ACTIONS * width**2

    return Size(name, 600, parameters, lambda folder: random_oft.write_random_oft(folder, shape))


def _llama(width: int, layers: int, mlp: int, heads: int) -> dict[str, int]:
    return {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "intermediate_size": mlp,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
        "head_dim": width // heads,
    }


def _tower(width: int, depth: int, heads: int) -> dict[str, int]:
    return {"width": width, "depth": depth, "heads": heads, "mlp_dim": 4 * width}


def _smolvla(name: str, shape: random_smolvla.Shape) -> Size:
    def parameters() -> int:
        with tempfile.TemporaryDirectory() as folder:
            config = random_smolvla.write_configuration(Path(folder) / "checkpoint", shape)
        return sum(weight.numel() for weight in build(config).state_dict().values())

    return Size(name, 600, parameters, lambda folder: random_smolvla.write_random_smolvla(folder, shape))


_SMALL, _TINY = _tower(384, 8, 6), _tower(64, 3, 4)
SIZES: Mapping[str, Sequence[Size] | None] = {
    MINI: None,
    SMOLVLA: (
        _smolvla("published", random_smolvla.Shape()),
        _smolvla(
            "256px",
            random_smolvla.Shape(
                vision={"image_size": 256, "hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}
            ),
        ),
        _smolvla(
            "tiny",
            random_smolvla.Shape(
                config={"num_vlm_layers": 4, "num_steps": 4, "chunk_size": 16},
                text={
                    "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 4, "num_attention_heads": 6,
                    "num_key_value_heads": 2, "head_dim": 16, "vocab_size": 96,
                },
                vision={
                    "image_size": 128, "hidden_size": 48, "num_attention_heads": 4, "intermediate_size": 96,
                    "num_hidden_layers": 2,
                },
            ),
        ),
    ),
    OFT: (
        _oft("7b", {}),
        _oft("3b", _llama(3072, 26, 8192, 24)),
        _oft("1b", _llama(2048, 20, 5632, 16), (_tower(768, 12, 12), _tower(768, 12, 12))),
        _oft("0.4b", _llama(1280, 20, 3456, 10), (_SMALL, _SMALL)),
        _oft("0.1b", _llama(768, 14, 2048, 12), (_tower(256, 6, 4), _tower(256, 6, 4))),
        _oft("tiny", _llama(128, 6, 344, 4), (_TINY, _TINY)),
    ),
}  # fmt: skip
"""Sizes of each model, the largest first; None = there is one, and it is bundled."""
