import json
from pathlib import Path

import pytest

from saccade.proto.errors import BundleIntegrityError, BundleVersionError, ManifestError
from saccade.runtime.bundle import Bundle
from tests.tiny_bundle import write_tiny_bundle

FILES = [
    "graphs/step.full.onnx",
    "graphs/step.keep50.onnx",
    "graphs/weights.bin",
    "tokenizer.json",
    "statistics.json",
]


def rewrite_manifest(bundle: Path, **changes: object) -> None:
    path = bundle / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_opens_what_was_written(tiny: Path) -> None:
    bundle = Bundle.open(tiny)
    assert bundle.manifest.name == "tiny"
    assert sorted(bundle.manifest.files) == sorted(FILES)
    assert bundle.read("tokenizer.json") == (tiny / "tokenizer.json").read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_in_any_file_is_found(tiny: Path, name: str) -> None:
    path = tiny / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        BundleIntegrityError, match=rf"{name}: expected sha256 [0-9a-f]+, found [0-9a-f]+: copy"
    ):
        Bundle.open(tiny)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_found(tiny: Path, name: str) -> None:
    path = tiny / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleIntegrityError, match=rf"{name}: expected \d+ bytes, found \d+"):
        Bundle.open(tiny)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tiny: Path, name: str) -> None:
    (tiny / name).unlink()
    with pytest.raises(BundleIntegrityError, match=f"{name} is missing"):
        Bundle.open(tiny)


def test_an_extra_file_is_named(tiny: Path) -> None:
    (tiny / "graphs" / "extra.py").write_text("import os")
    with pytest.raises(BundleIntegrityError, match=r"graphs/extra\.py is not in the manifest"):
        Bundle.open(tiny)


def test_a_symbolic_link_is_refused(tiny: Path) -> None:
    target = tiny.parent / "weights.bin"
    (tiny / "graphs" / "weights.bin").rename(target)
    (tiny / "graphs" / "weights.bin").symlink_to(target)
    with pytest.raises(BundleIntegrityError, match=r"found the symbolic link graphs/weights\.bin"):
        Bundle.open(tiny)


@pytest.mark.parametrize(("version", "remedy"), [(0, "export it again"), (2, "update saccade")])
def test_another_format_version_is_refused(tiny: Path, version: int, remedy: str) -> None:
    rewrite_manifest(tiny, format_version=version, something_new=True)
    with pytest.raises(
        BundleVersionError, match=f"expected bundle format_version 1, found {version}: {remedy}"
    ):
        Bundle.open(tiny)


def test_an_unknown_key_is_refused(tiny: Path) -> None:
    rewrite_manifest(tiny, colour="blue")
    with pytest.raises(ManifestError, match=r"\$\.colour: unknown key"):
        Bundle.open(tiny)


def test_a_directory_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleIntegrityError, match=r"expected a bundle with manifest\.json, found none"):
        Bundle.open(tmp_path)
    with pytest.raises(BundleIntegrityError, match="expected the directory of a bundle, found none"):
        Bundle.open(tmp_path / "nowhere")


def test_a_manifest_of_absurd_size_is_not_read(tiny: Path) -> None:
    with (tiny / "manifest.json").open("ab") as file:
        file.truncate(5 << 20)
    with pytest.raises(BundleIntegrityError, match="at most 4194304 bytes, found 5242880"):
        Bundle.open(tiny)


def test_a_manifest_that_is_not_utf8_is_refused(tiny: Path) -> None:
    (tiny / "manifest.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ManifestError, match="UTF-8"):
        Bundle.open(tiny)


def test_a_second_bundle_may_lie_anywhere(tmp_path: Path) -> None:
    root = write_tiny_bundle(tmp_path / "a b" / "ü")
    assert Bundle.open(str(root)).root == root.resolve()


def test_what_is_only_looked_at_is_verified_without_its_graphs(tiny: Path) -> None:
    bundle = Bundle.open(tiny, with_graphs=False)
    assert sorted(bundle.files) == ["statistics.json", "tokenizer.json"]
    with pytest.raises(BundleIntegrityError, match=r"found 'graphs/weights\.bin'"):
        bundle.read("graphs/weights.bin")
    (tiny / "graphs" / "weights.bin").write_bytes(bytes(8))
    with pytest.raises(BundleIntegrityError, match=r"graphs/weights\.bin: expected sha256"):
        Bundle.open(tiny, with_graphs=False)


def test_what_was_read_cannot_be_written(tiny: Path) -> None:
    assert not any(content.flags.writeable for content in Bundle.open(tiny).files.values())
