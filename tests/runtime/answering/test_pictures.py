"""Picture files become pixels as the reference reads them, or one error."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from saccade.proto.errors import ImageError
from saccade.runtime.answering.pictures import read_picture


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_file_is_read_as_rgb(tmp_path: Path) -> None:
    image = picture(5, 7)
    Image.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), image)
    Image.fromarray(image[:, :, 0]).save(tmp_path / "grey.png")
    assert read_picture(tmp_path / "grey.png").shape == (5, 7, 3)


def test_what_is_no_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="found no file at"):
        read_picture(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ImageError, match=r"text\.png: expected a picture file"):
        read_picture(tmp_path / "text.png")
    Image.fromarray(picture(40, 40)).save(tmp_path / "cut.png")
    whole = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"cut\.png: expected a picture file, found"):
        read_picture(tmp_path / "cut.png")


FORMATS = (
    "PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA", "ICO", "DDS", "JPEG2000", "PCX", "SGI",
)  # fmt: skip
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "header only": lambda whole: whole[:16],
    "cut in the header": lambda whole: whole[:40],
    "cut in half": lambda whole: whole[: len(whole) // 2],
    "cut at the end": lambda whole: whole[:-30],
    "bytes flipped in the header": lambda whole: flipped(whole, range(4, 60, 7)),
    "bytes flipped in the pixels": lambda whole: flipped(whole, range(len(whole) // 2, len(whole) - 8, 50)),
    "another extension": lambda whole: whole,
    "garbage": lambda whole: np.random.default_rng(len(whole)).bytes(len(whole)),
}


def flipped(whole: bytes, places: range) -> bytes:
    damaged = bytearray(whole)
    for place in places:
        damaged[place] ^= 0xFF
    return bytes(damaged)


def encoded(image: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_is_a_picture_or_the_one_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, damage: str
) -> None:
    """13 formats by 9 damages; warnings are errors here, and nothing is written."""
    path = tmp_path / "photo.mp4"
    path.write_bytes(DAMAGES[damage](encoded(picture(48, 64), kind)))
    try:
        found = read_picture(path)
    except ImageError as error:
        assert damage != "another extension"
        assert error.message.startswith("photo.mp4: expected a picture file")  # noqa: PT017 - refused or not
    else:
        assert damage in {"cut at the end", "another extension"} or damage.startswith("bytes flipped")
        assert (found.dtype, found.ndim, found.shape[2]) == (np.uint8, 3, 3)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_picture_is_turned_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    """A camera is held in eight ways; a TIFF, which Pillow turns itself, is not turned twice."""
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    path = tmp_path / "phone"
    path.write_bytes(encoded(picture(40, 64), kind, exif=tags.tobytes()))
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    assert expected.shape[:2] == ((64, 40) if orientation > 4 else (40, 64))
    np.testing.assert_array_equal(read_picture(path), expected)


def test_an_orientation_that_is_none_turns_nothing(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 9
    (tmp_path / "a.png").write_bytes(encoded(picture(4, 6), "PNG", exif=tags.tobytes()))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), picture(4, 6))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *((mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        *((mode, "TIFF") for mode in ("CMYK", "LAB")),
        ("CMYK", "JPEG"),
    ],
)
@pytest.mark.reference
def test_8_bits_become_what_the_reference_makes_of_them(tmp_path: Path, mode: str, kind: str) -> None:
    """Pixel for pixel, against transformers' own loader."""
    from transformers.image_utils import load_image

    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8))
    image = image if mode in {"RGBA", "LA"} else image.convert("RGB")
    image.convert(mode).save(tmp_path / "a", kind)
    with Image.open(tmp_path / "a") as opened:
        assert opened.mode == mode
    found = read_picture(tmp_path / "a")
    np.testing.assert_array_equal(found, np.asarray(load_image(str(tmp_path / "a"))))
    assert found.std() > 0


@pytest.mark.parametrize("colours", ["one", "each"])
def test_transparency_of_a_palette_is_dropped_without_a_word(tmp_path: Path, colours: str) -> None:
    image = Image.fromarray(picture(20, 30)).quantize(16)
    expected = np.asarray(image.convert("RGB"))
    image.save(tmp_path / "a.png", transparency=3 if colours == "one" else bytes(range(16)))
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), expected)


def png(values: np.ndarray, colour_type: int) -> bytes:
    """A PNG of 16 bits, uint16 ``(height, width, channels)``."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def tiff(data: bytes, size: tuple[int, int], *, bits: int, photometric: int = 1, order: str = "<") -> bytes:
    """A grey TIFF of one strip; photometric 0 says that 0 is white."""
    shorts = {256: size[1], 257: size[0], 258: bits, 259: 1, 262: photometric, 277: 1, 278: size[0]}
    longs = {273: 8, 279: len(data)}
    tags = [(tag, 3, struct.pack(f"{order}HH", value, 0)) for tag, value in shorts.items()]
    tags += [(tag, 4, struct.pack(f"{order}I", value)) for tag, value in longs.items()]
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(data))
    entries = b"".join(struct.pack(f"{order}HHI", tag, kind, 1) + value for tag, kind, value in sorted(tags))
    return head + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def test_of_16_bits_the_upper_eight_are_taken(tmp_path: Path) -> None:
    """In every format, in grey as in colour, whatever the byte order; alpha does not count."""
    values = np.random.default_rng(0).integers(0, 1 << 16, (6, 10, 4)).astype(np.uint16)
    values[0, :3, :3] = [[0], [255], [65535]]
    grey, big, little = values[..., 0], values[..., 0].astype(">u2").tobytes(), values[..., 0].tobytes()
    upper = (values >> 8).astype(np.uint8)
    twelve = grey >> 4
    packed = np.stack(
        [twelve[:, ::2] >> 4, (twelve[:, ::2] & 15) << 4 | twelve[:, 1::2] >> 8, twelve[:, 1::2]], -1
    )
    for name, written, expected in (
        ("grey.png", png(values[..., :1], 0), upper[..., :1]),
        ("grey and alpha.png", png(values[..., [0, 3]], 4), upper[..., :1]),
        ("colour.png", png(values[..., :3], 2), upper[..., :3]),
        ("colour and alpha.png", png(values, 6), upper[..., :3]),
        ("grey.pgm", b"P5 10 6 65535\n" + big, upper[..., :1]),
        ("little.tiff", tiff(little, (6, 10), bits=16), upper[..., :1]),
        ("big.tiff", tiff(big, (6, 10), bits=16, order=">"), upper[..., :1]),
        ("negative.tiff", tiff(little, (6, 10), bits=16, photometric=0), ~upper[..., :1]),
        ("twelve.tiff", tiff(packed.astype(np.uint8).tobytes(), (6, 10), bits=12), upper[..., :1]),
        ("grey.jp2", encoded(grey, "JPEG2000"), upper[..., :1]),
    ):
        (tmp_path / name).write_bytes(written)
        found = read_picture(tmp_path / name)
        np.testing.assert_array_equal(found, np.broadcast_to(expected, (6, 10, 3)), err_msg=name)


@pytest.mark.parametrize(("dtype", "kind"), [(np.int32, "32-bit integers"), (np.float32, "32-bit floats")])
def test_what_has_no_known_white_is_refused(tmp_path: Path, dtype: type[np.generic], kind: str) -> None:
    (tmp_path / "depth.tiff").write_bytes(encoded(np.ones((4, 6), dtype), "TIFF"))
    with pytest.raises(
        ImageError, match=rf"^depth\.tiff: expected .* 8 or 16 bits, found {kind}.*: convert it"
    ):
        read_picture(tmp_path / "depth.tiff")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_many_frames_the_first_is_read(tmp_path: Path, kind: str) -> None:
    still, other = (np.full((20, 30, 3), grey, np.uint8) for grey in (40, 200))
    lossless = {"lossless": True} if kind == "WEBP" else {}
    many = encoded(still, kind, save_all=True, append_images=[Image.fromarray(other)], **lossless)
    (tmp_path / "many").write_bytes(many)
    with Image.open(tmp_path / "many") as opened:
        assert getattr(opened, "n_frames", 1) == 2
    np.testing.assert_array_equal(read_picture(tmp_path / "many"), still)


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("bomb.ppm", b"P6 50000 50000 255\n", "Image size .* exceeds limit .* bomb"),
        ("flat.ppm", b"P6 0 5 255\n", "no format that is known"),
        ("n" * 300, None, "File name too long|no file at"),
    ],
)
def test_the_one_error_says_which_file_and_why(
    tmp_path: Path, name: str, data: bytes | None, found: str
) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ImageError, match=rf"expected a picture.*, found:? ?({found})") as refused:
        read_picture(tmp_path / name)
    assert name in refused.value.message
