"""A bundle is written whole or not at all."""

from __future__ import annotations

import hashlib
import re
import resource
import shutil
from pathlib import Path

import pytest

from saccade.export.bundle.writer import (
    BundleWriter,
    check_space,
    check_target,
    clear_abandoned,
    hash_file,
)
from saccade.export.control.pipeline import ExportReport
from saccade.proto.errors import ExportError, FileError
from saccade.proto.manifest import FileSpec, Manifest, read_manifest

Exported = tuple[Path, ExportReport]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _again(manifest: Manifest, writer: BundleWriter, source: Path) -> Manifest:
    """Write the same bundle through another writer."""
    for name in manifest.files:
        target = writer.folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((source / name).read_bytes())
    return writer.commit(lambda files: _with_files(manifest, dict(files)))


def _with_files(manifest: Manifest, files: dict[str, FileSpec]) -> Manifest:
    from dataclasses import replace

    return replace(manifest, files=files)


def test_every_file_is_listed_with_its_hash(exported: Exported) -> None:
    bundle, manifest = exported[0], read_manifest(exported[0])
    on_disk = {p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file()}
    assert set(manifest.files) == on_disk - {"manifest.json"}
    for name, file in manifest.files.items():
        content = (bundle / name).read_bytes()
        assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_a_crash_leaves_nothing(tmp_path: Path) -> None:
    def crash() -> None:
        with BundleWriter(tmp_path / "bundle") as writer:
            (writer.folder / "weights.bin").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crash()
    assert _names(tmp_path) == []


def test_a_manifest_that_breaks_a_rule_leaves_the_old_bundle(exported: Exported, tmp_path: Path) -> None:
    source, manifest = exported[0], read_manifest(exported[0])
    out = tmp_path / "bundle"
    with BundleWriter(out) as writer:
        _again(manifest, writer, source)
    before = (out / "manifest.json").read_bytes()

    def refuse(files: object) -> Manifest:
        raise ExportError("no")

    with pytest.raises(ExportError, match="no"), BundleWriter(out, overwrite=True) as writer:
        writer.commit(refuse)
    assert (out / "manifest.json").read_bytes() == before
    assert _names(tmp_path) == ["bundle"]


def test_overwriting_must_be_asked_for(exported: Exported, tmp_path: Path) -> None:
    source, manifest = exported[0], read_manifest(exported[0])
    out = tmp_path / "bundle"
    with BundleWriter(out) as writer:
        _again(manifest, writer, source)
    (out / "stale").write_text("from the bundle before")
    with pytest.raises(ExportError, match="found one; use --force"):
        BundleWriter(out)
    with BundleWriter(out, overwrite=True) as writer:
        _again(manifest, writer, source)
    assert not (out / "stale").exists()
    assert _names(tmp_path) == ["bundle"]


def test_what_appears_meanwhile_is_never_replaced(exported: Exported, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    with BundleWriter(out) as writer:
        out.mkdir()
        (out / "thesis.tex").write_text("years of work")
        with pytest.raises(ExportError, match="found something else"):
            _again(read_manifest(exported[0]), writer, exported[0])
    assert _names(tmp_path) == ["bundle"]
    assert _names(out) == ["thesis.tex"]


def test_an_interrupted_swap_leaves_the_old_bundle(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, manifest = exported[0], read_manifest(exported[0])
    out = tmp_path / "bundle"
    with BundleWriter(out) as writer:
        _again(manifest, writer, source)
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if ".partial-" in self.name:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), BundleWriter(out, overwrite=True) as writer:
        _again(manifest, writer, source)
    assert _names(tmp_path) == ["bundle"]
    assert read_manifest(out) == manifest


def test_an_empty_folder_is_free(exported: Exported, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    out.mkdir()
    with BundleWriter(out) as writer:
        _again(read_manifest(exported[0]), writer, exported[0])
    assert (out / "manifest.json").is_file()


def test_a_folder_that_is_no_bundle_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ExportError, match="found something else"):
        check_target(tmp_path, overwrite=True)
    with pytest.raises(ExportError, match="found something else"):
        check_target(tmp_path / "thesis.tex", overwrite=True)


def cannot_be_written(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    (tmp_path / "file").write_text("")
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "lost").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    return {
        "here": (Path(), "a path that ends in the name to write"),
        "above": (tmp_path / "..", "a path that ends in the name to write"),
        "root": (Path("/"), "a path that ends in the name to write"),
        "link": (tmp_path / "link", "found a link to target: name that"),
        "lost": (tmp_path / "lost", "found a link to nowhere"),
        "loop": (tmp_path / "loop", "found a link to loop"),
        "in a file": (tmp_path / "file" / "bundle", "what is there is no folder"),
        "in a loop": (tmp_path / "loop" / "bundle", "what is there is no folder"),
        "long": (tmp_path / ("n" * 300), "choose a shorter name"),
        "long with what is beside it": (tmp_path / ("n" * 250), "choose a shorter name"),
        "mount point": (Path("/dev"), "found a mount point"),
    }


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    wrong = cannot_be_written(tmp_path)
    before = _names(tmp_path)
    for name, (out, why) in wrong.items():
        with pytest.raises(FileError, match=re.escape(why)):
            BundleWriter(out)
        assert _names(tmp_path) == before, name
    with pytest.raises(FileError, match="found a link to target"):
        check_target(tmp_path / "link", overwrite=True)


def test_folders_that_were_made_for_nothing_go_again(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "a" / "b" / "bundle") as writer:
        assert writer.folder.is_dir()
    assert _names(tmp_path) == []


def test_a_file_that_may_not_be_so_large_is_refused_before_the_work(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, before[1]))
    try:
        with pytest.raises(ExportError, match=r"raise it with `ulimit -f`"):
            check_space(tmp_path / "bundle", 1 << 13)
        with pytest.raises(FileError, match="File too large; raise the limit of file sizes"):
            BundleWriter(tmp_path / "bundle")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert _names(tmp_path) == []


def test_hash_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 1_000_000)
    assert hash_file(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_folder_in_use_is_not_taken_for_abandoned(tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "bundle") as first, BundleWriter(tmp_path / "bundle") as second:
        assert first.folder.is_dir()
        assert second.folder.is_dir()
        assert len(_names(tmp_path)) == 2
    assert _names(tmp_path) == []


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    for name in (".bundle.partial-a", ".bundle.old-b", ".other.partial-c"):
        (tmp_path / name / "graphs").mkdir(parents=True)
    (tmp_path / "bundle").mkdir()
    clear_abandoned(tmp_path / "bundle")
    assert _names(tmp_path) == [".other.partial-c", "bundle"]


def test_a_bundle_that_a_killed_writer_moved_away_is_put_back(exported: Exported, tmp_path: Path) -> None:
    moved = tmp_path / ".bundle.old-x" / "bundle"
    shutil.copytree(exported[0], moved)
    with pytest.raises(ExportError, match="found one; use --force"):
        BundleWriter(tmp_path / "bundle")
    assert _names(tmp_path) == ["bundle"]
    assert read_manifest(tmp_path / "bundle") == read_manifest(exported[0])


def test_a_disk_without_room_is_refused_before_the_work(tmp_path: Path) -> None:
    check_space(tmp_path / "not" / "there" / "bundle", 1)
    with pytest.raises(ExportError, match=r"expected 1152921504\.6 GB free for the weights at .*make room"):
        check_space(tmp_path / "bundle", 1 << 60)
