"""Generate the protobuf code in ``v1/`` from the ``.proto`` files; ``--check`` fails if it is stale.

    python proto/generate.py            # after editing a .proto file; commit the result
    python proto/generate.py --check    # what the tests run

Needs ``grpcio-tools`` (in the ``dev`` extra). Generated code refuses to run with a protobuf or grpcio older than
the one it was made with, so it is made with the oldest that ``pyproject.toml`` admits: :data:`PINNED_TOOLS`.
Checking compares the descriptors, which every version writes alike, so any version will do.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PINNED_TOOLS = "1.75.1"
HERE = Path(__file__).resolve().parent
VERSION_FOLDER = "v1"


def generate(destination: Path) -> list[Path]:
    """Write the generated files below ``destination`` and return their paths relative to it."""
    for source in sorted((HERE / VERSION_FOLDER).glob("*.proto")):
        kinds = ["python", "pyi"]
        if "\nservice " in source.read_text():
            kinds.append("grpc_python")
        # The virtual path gives the generated modules their absolute import, saccade.proto.v1.
        command = [
            *(sys.executable, "-m", "grpc_tools.protoc", f"-Isaccade/proto={HERE}"),
            *(f"--{kind}_out={destination}" for kind in kinds),
            f"saccade/proto/{VERSION_FOLDER}/{source.name}",
        ]
        subprocess.run(command, check=True)  # noqa: S603 - our own arguments only
    root = destination / "saccade" / "proto"
    return sorted(path.relative_to(root) for path in root.rglob("*.py*"))


def stale(made: Path) -> list[Path]:
    """Return the committed files whose descriptor differs from that of the ones generated into ``made``."""
    names = [name for name in generate(made) if name.name.endswith("_pb2.py")]
    root = made / "saccade" / "proto"
    return [HERE / name for name in names if _descriptor(root / name) != _descriptor(HERE / name)]


def main() -> int:
    """Generate or check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if a file is stale")
    found = importlib.metadata.version("grpcio-tools")
    with tempfile.TemporaryDirectory() as folder:
        if parser.parse_args().check:
            for path in stale(Path(folder)):
                sys.stderr.write(f"expected {path} to match its .proto, found it stale: run {__file__}.\n")
                return 1
            return 0
        if found != PINNED_TOOLS:
            sys.stderr.write(
                f"expected grpcio-tools {PINNED_TOOLS}, found {found}: install the pinned one.\n"
            )
            return 2
        for name in generate(Path(folder)):
            shutil.copyfile(Path(folder) / "saccade" / "proto" / name, HERE / name)
    return 0


def _descriptor(path: Path) -> str:
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line for line in lines if line.startswith("DESCRIPTOR = ")), "")


if __name__ == "__main__":
    raise SystemExit(main())
