"""Read a picture in any common form as upright 8-bit RGB; write one.

Pillow reads, because OpenCV does not read GIF everywhere, drops embedded colour profiles, and has no say in how alpha,
grey with alpha and CMYK become RGB. Only picture formats are tried: Pillow would run Ghostscript on a PostScript file.
"""

from __future__ import annotations

import threading
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import InputError
from .files import check_readable, new_file, output_error

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "TIFF", "GIF", "PPM", "TGA", "JPEG2000", "AVIF")
MAX_PIXELS = 100_000_000
MIN_SIDE = 64  # pixels; a face smaller than this says too little about the person
WHITE = (255, 255, 255, 255)
_truncated = threading.Lock()  # guards Pillow's global switch


def read_image(path: str | Path) -> np.ndarray:
    """Read a picture upright: EXIF rotation applied, transparent parts white, any bit depth as 8 bits.

    Of an animation the first frame is read. A truncated picture is read as far as it goes; the rest is grey.

    Shape:
        returns: (H, W, 3) uint8 RGB, contiguous.

    Raises:
        InputError: if the file is missing, unreadable, not a picture, under 64 px a side or over 100 megapixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    check_readable(path, InputError, "picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of size (checked below) and of odd EXIF data
            Image.init()
            known = [name for name in FORMATS if name in Image.OPEN]  # AVIF is not in every build
            with Image.open(path, formats=known) as image:
                _check_size(path, *image.size)
                _load(image)
                upright = ImageOps.exif_transpose(image)
                return np.array(_to_rgb(upright))
    except Image.DecompressionBombError:
        raise InputError(f"{path} has more than {MAX_PIXELS // 10**6} megapixels; make it smaller") from None
    except UnidentifiedImageError:
        raise InputError(f"{path} is not a picture that can be read; convert it to jpg or png") from None
    except (OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError) as error:
        reason = str(error).rstrip(".") or type(error).__name__  # Pillow's decoders raise all of these on damaged data
        raise InputError(f"{path} is a damaged picture ({reason}); export it again") from None


def write_image(path: str | Path, pixels: np.ndarray) -> None:
    """Write uint8 RGB (H, W, 3) or grey (H, W) as the format of the name's ending, whole or not at all.

    Raises:
        OutputError: if the folder is missing or not writable, or the disk is full.
    """
    from PIL import Image

    path = Path(path)
    with new_file(path) as part:
        try:
            Image.fromarray(pixels).save(part, quality=95, subsampling=0)  # PNG ignores both options
        except OSError as error:
            raise output_error(path, error) from None


def _check_size(path: Path, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(f"{path} is {width}x{height}; more than {MAX_PIXELS // 10**6} megapixels, make it smaller")
    if min(width, height) < MIN_SIDE:
        raise InputError(f"{path} is {width}x{height}; at least {MIN_SIDE} pixels a side are needed")


def _load(image: Image.Image) -> None:
    from PIL import ImageFile

    try:
        image.load()
    except OSError as error:
        if "truncated" not in str(error):
            raise
        with _truncated:
            before = ImageFile.LOAD_TRUNCATED_IMAGES
            ImageFile.LOAD_TRUNCATED_IMAGES = True
            try:
                image.load()
            finally:
                ImageFile.LOAD_TRUNCATED_IMAGES = before


def _to_rgb(image: Image.Image) -> Image.Image:
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        image = _to_grey(image)
    image = _to_srgb(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, WHITE), rgba).convert("RGB")
    return image.convert("RGB")


def _to_grey(image: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits or floating point as 8 bits; `convert` would clip at 255."""
    from PIL import Image

    values = np.nan_to_num(np.asarray(image).astype(np.float32))
    peak = float(values.max())
    full = next((limit for limit in (1.0, 255.0, 65_535.0) if peak <= limit), peak) if image.mode == "F" else 65_535.0
    return Image.fromarray(np.clip(np.round(values * (255.0 / full)), 0, 255).astype(np.uint8))


def _to_srgb(image: Image.Image) -> Image.Image:
    """Apply an embedded colour profile (Display P3 of telephones, print profiles of CMYK); a broken one is ignored."""
    import io

    from PIL import Image, ImageCms

    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "RGBA", "CMYK"):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image
    return converted if isinstance(converted, Image.Image) else image
