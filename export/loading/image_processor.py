"""The image processor's file: how a published model wants its pictures."""

from __future__ import annotations

from dataclasses import dataclass

from saccade.export.loading.checkpoint_folder import CheckpointFolder
from saccade.export.loading.json_fields import JsonFields
from saccade.proto.errors import CheckpointError
from saccade.proto.picture_fit import FitMethod, PictureFit, Resample

NAMES = ("preprocessor_config.json", "processor_config.json")
"""Files that may describe the image processor: one of its own, or since transformers 5 a part of the processor's."""

_MOST = 255
_RESAMPLES = {1: Resample.LANCZOS, 2: Resample.BILINEAR, 3: Resample.BICUBIC}
"""Pillow's numbers of the ways to resample."""


@dataclass(frozen=True)
class ImageProcessor:
    """What every family reads of an image processor; :attr:`fields` has the rest.

    Args:
        mean: Mean that is subtracted from each channel, for pixels in 0..1.
        std: Standard deviation that each channel is divided by, for pixels in 0..1.
        fields: Every field of the processor's object.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    fields: JsonFields

    def resample(self, default: Resample) -> Resample:
        """Return how the processor resizes pictures, or ``default`` where the file does not say.

        Raises:
            CheckpointError: The processor resizes in a way that is not known here.
        """
        if not self.fields.has("resample"):
            return default
        return pillow_resample(self.fields, "resample")


def square_fit(processor: ImageProcessor, default: Resample) -> PictureFit:
    """Return how an image processor makes a square of a picture: padded, cropped or stretched.

    Args:
        processor: Processor whose pictures all become one square.
        default: How it resizes where the file does not say.

    Raises:
        CheckpointError: What it makes is no square, or it resizes in a way that is not known here.

    Source:
        transformers' ``CLIPImageProcessor``, ``SiglipImageProcessor`` and ``LlavaImageProcessor``.
    """
    fields, resample = processor.fields, processor.resample(default)
    if fields.has("do_pad") and fields.take("do_pad", bool):
        background = tuple(int(mean * _MOST) for mean in processor.mean)
        return PictureFit(FitMethod.PAD, resample, background=background)
    size = fields.child("size")
    if not size.has("shortest_edge"):
        for name in ("height", "width"):
            size.take(name, int)  # a longest_edge, say, makes no square
        return PictureFit(FitMethod.STRETCH, resample)
    if fields.has("do_center_crop") and not fields.take("do_center_crop", bool):
        raise CheckpointError(
            "image processor: do_center_crop: expected true where size has a shortest_edge, so that every picture "
            "becomes a square, found false."
        )
    return PictureFit(FitMethod.CROP, resample)


def pillow_resample(fields: JsonFields, name: str) -> Resample:
    """Return the way to resample that a field has Pillow's number of.

    Raises:
        CheckpointError: It is a way that is not known here.
    """
    fields.expect(name, _RESAMPLES)
    return _RESAMPLES[fields.take(name, int)]


def read_image_processor(
    folder: CheckpointFolder, names: tuple[str, ...] = NAMES, part: str = "image_processor"
) -> ImageProcessor:
    """Read a checkpoint's image processor.

    Args:
        folder: The checkpoint whose processor is read.
        names: Files to look for; the first that is there counts.
        part: Key of the image processor's object in a file that describes several processors.

    Raises:
        CheckpointError: No such file, or no mean and std in it; class defaults are not what models were trained with.
    """
    name = next((name for name in names if folder.has(name)), None)
    if name is None:
        raise CheckpointError(
            f"expected {' or '.join(names)} in {folder.name}/, found neither; copy it from the published checkpoint."
        )
    fields = folder.fields(name)
    if fields.has(part):
        fields = fields.child(part)
    fields.expect("do_normalize", (True,))
    fields.expect("do_rescale", (True,))
    return ImageProcessor(fields.items("image_mean", float), fields.items("image_std", float), fields)
