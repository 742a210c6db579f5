"""Pictures fit a view exactly as the image processors of published models make them fit."""

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

from saccade.proto.errors import ImageError, ManifestError
from saccade.proto.manifest import ViewSpec
from saccade.proto.picture_fit import FitMethod, PictureFit, Resample
from saccade.proto.tiling import Tiling
from saccade.runtime.answering.pictures import fit_picture, read_picture

VIEW = ViewSpec("image0", 28, 28)
SMALL = tuple((28 * rows, 28 * columns) for rows, columns in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3)))
TILED = PictureFit(FitMethod.TILE, Resample.BICUBIC, tiling=Tiling(SMALL, 28, 4))
CROP = PictureFit(FitMethod.CROP, Resample.BICUBIC)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(28, 28), (40, 61), (61, 40), (29, 57), (9, 9), (200, 31), (333, 334)])
@pytest.mark.reference
def test_cropping_is_that_of_clip(size: tuple[int, int]) -> None:
    """Pixel for pixel, against transformers' own processor."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(
        size={"shortest_edge": 28},
        crop_size={"height": 28, "width": 28},
        do_rescale=False,
        do_normalize=False,
    )
    image = picture(*size)
    expected = processor(images=Image.fromarray(image), return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal(fit_picture(image, VIEW, CROP)[0], expected.transpose(1, 2, 0))


@pytest.mark.parametrize("resample", Resample)
def test_stretching_is_pillows(resample: Resample) -> None:
    image = picture(33, 50)
    wanted = Image.fromarray(image).resize((20, 12), getattr(Image.Resampling, resample.name))
    found = fit_picture(image, ViewSpec("wide", 12, 20), PictureFit(FitMethod.STRETCH, resample))
    np.testing.assert_array_equal(found, np.asarray(wanted)[None])


@pytest.mark.parametrize("size", [(27, 43), (270, 430), (26, 44)])
def test_a_picture_near_the_view_s_aspect_is_resized_to_what_the_graph_takes(size: tuple[int, int]) -> None:
    fit = PictureFit(FitMethod.NEAR_ASPECT, Resample.BICUBIC, size=(24, 40))
    image, view = picture(*size), ViewSpec("camera", 27, 43)
    wanted = Image.fromarray(image).resize((40, 24), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(fit_picture(image, view, fit), np.asarray(wanted)[None])
    assert fit.arrays((27, 43)) == (1, 24, 40)


@pytest.mark.parametrize("size", [(43, 27), (27, 60), (30, 40)])
def test_a_picture_of_another_aspect_is_refused_where_it_counts(size: tuple[int, int]) -> None:
    fit = PictureFit(FitMethod.NEAR_ASPECT, Resample.BICUBIC, size=(24, 40))
    asked = rf"aspect of 43x27, found {size[1]}x{size[0]}: .* --image-size {size[1]}x{size[0]}"
    with pytest.raises(ImageError, match=asked):
        fit_picture(picture(*size), ViewSpec("camera", 27, 43), fit)


@pytest.mark.parametrize("size", [(40, 61), (28, 28), (200, 90), (13, 17), (57, 57), (90, 31), (5, 9)])
@pytest.mark.reference
def test_tiles_are_those_of_llava_next(size: tuple[int, int]) -> None:
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": 28},
        crop_size={"height": 28, "width": 28},
        image_grid_pinpoints=[list(point) for point in SMALL],
        do_normalize=False,
        do_rescale=False,
    )
    image = picture(*size)
    expected = processor.preprocess([image], return_tensors="np")["pixel_values"][0]
    tiles = fit_picture(image, ViewSpec("image0", *size), TILED)
    assert tiles.dtype == np.uint8 and tiles.shape == (len(expected), 28, 28, 3)
    np.testing.assert_array_equal(tiles, np.moveaxis(expected, 1, -1))
    assert TILED.arrays(size) == tiles.shape[:3]


@pytest.mark.parametrize("size", [(40, 61), (61, 40), (33, 33), (7, 100)])
@pytest.mark.reference
def test_squares_are_those_of_llava_onevision(size: tuple[int, int]) -> None:
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    views = [picture(*size), 255 - picture(*size)]
    processor = LlavaOnevisionImageProcessorPil(
        size={"height": 28, "width": 28}, image_mean=[0.5, 0.25, 0.9], do_normalize=False, do_rescale=False
    )
    expected = processor.preprocess([views], return_tensors="np")["pixel_values"][:, 0]
    fit = PictureFit(FitMethod.PAD, Resample.BICUBIC, background=(127, 63, 229))
    for image, square in zip(views, expected, strict=True):
        np.testing.assert_array_equal(fit_picture(image, VIEW, fit)[0], np.moveaxis(square, 0, -1))


def test_a_graph_of_tiles_takes_every_picture_that_is_tiled_alike() -> None:
    view = ViewSpec("image0", 40, 60)
    assert fit_picture(picture(40, 60), view, TILED).shape == fit_picture(picture(80, 120), view, TILED).shape
    message = "tiled as 60x40 pixels are, found 40x60: crop or resize it to 60x40, or export again"
    with pytest.raises(ImageError, match=message):
        fit_picture(picture(60, 40), view, TILED)
    with pytest.raises(ImageError, match="something remains on a canvas of the checkpoint, found 2000x1"):
        fit_picture(picture(1, 2000), view, TILED)


@pytest.mark.parametrize(
    "parts",
    [
        {"method": FitMethod.TILE},
        {"method": FitMethod.CROP, "tiling": Tiling(((28, 28),), 28, 4)},
        {"method": FitMethod.PAD},
        {"method": FitMethod.PAD, "background": (1, 2, 256)},
        {"method": FitMethod.STRETCH, "background": (1, 2, 3)},
        {"method": FitMethod.STRETCH, "size": (28, 28)},
        {"method": FitMethod.NEAR_ASPECT},
        {"method": FitMethod.NEAR_ASPECT, "size": (0, 28)},
    ],
)
def test_a_fit_that_lacks_something_is_refused(parts: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match="picture_fit: expected"):
        PictureFit(resample=Resample.BICUBIC, **parts)


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


def test_arrays_of_another_kind_are_refused() -> None:
    for wrong in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(ImageError, match=r"expected a picture uint8 \(height, width, 3\)"):
            fit_picture(wrong, VIEW, CROP)
    with pytest.raises(ImageError, match="expected a square view to crop a picture for, found 12 x 20"):
        fit_picture(picture(30, 30), ViewSpec("wide", 12, 20), CROP)


@pytest.mark.parametrize("method", [FitMethod.CROP, FitMethod.PAD])
def test_a_picture_that_would_fill_the_memory_on_its_way_is_refused(method: FitMethod) -> None:
    fit = PictureFit(method, Resample.BICUBIC, background=(1, 2, 3) if method is FitMethod.PAD else ())
    with pytest.raises(ImageError, match=r"found 1x40000, which becomes [0-9]+: crop it"):
        fit_picture(picture(40000, 1), ViewSpec("camera", 336, 336), fit)


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
