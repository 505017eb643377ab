"""Pictures: whatever a camera, scanner or web page gives becomes the same upright RGB."""

from __future__ import annotations

import errno
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from emotalk.errors import InputError, OutputError
from emotalk.image import read_image, write_image

HEIGHT, WIDTH = 72, 96


@pytest.fixture
def picture() -> np.ndarray:
    """Smooth, without symmetry, and different in every channel."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x * 2, y * 3, 255 - (x + y)], axis=-1).astype(np.uint8)


def close(read: np.ndarray, expected: np.ndarray, tolerance: float) -> bool:
    assert read.shape == (HEIGHT, WIDTH, 3) and read.dtype == np.uint8 and read.flags.c_contiguous
    return float(np.abs(read.astype(int) - expected.astype(int)).mean()) <= tolerance


@pytest.mark.parametrize(("name", "tolerance"), [
    ("a.png", 0), ("a.bmp", 0), ("a.tif", 0), ("a.ppm", 0), ("a.tga", 0), ("a.webp", 3), ("a.jpg", 3), ("a.gif", 12),
    ("a.jp2", 1), ("a.avif", 6), ("name without ending", 3), ("grüße 笑顔.png", 0),
])  # fmt: skip
def test_formats(tmp_path: Path, picture: np.ndarray, name: str, tolerance: float) -> None:
    kind = "JPEG" if "." not in name else None
    Image.fromarray(picture).save(tmp_path / name, kind, quality=95)
    assert close(read_image(tmp_path / name), picture, tolerance)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, picture: np.ndarray, orientation: int) -> None:
    stored = {
        1: picture, 2: picture[:, ::-1], 3: picture[::-1, ::-1], 4: picture[::-1],
        5: picture.transpose(1, 0, 2), 6: np.rot90(picture), 7: np.rot90(picture, 2).transpose(1, 0, 2),
        8: np.rot90(picture, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.jpg", quality=98, exif=exif)
    assert close(read_image(str(tmp_path / "a.jpg")), picture, 3)


def test_transparent_parts_are_white(tmp_path: Path, picture: np.ndarray) -> None:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, :48] = 0
    alpha[:, 48:60] = 128
    expected = np.round(255 + (picture.astype(float) - 255) * alpha[..., None] / 255)
    Image.fromarray(np.dstack([picture, alpha])).save(tmp_path / "rgba.png")
    assert close(read_image(tmp_path / "rgba.png"), expected, 0.6)
    grey = picture[..., 0]
    Image.fromarray(np.dstack([grey, alpha])).save(tmp_path / "la.png")
    assert close(
        read_image(tmp_path / "la.png"),
        np.round(255 + (grey[..., None].astype(float) - 255) * alpha[..., None] / 255),
        0.6,
    )
    palette = Image.fromarray(picture).quantize(64)
    palette.info["transparency"] = int(np.asarray(palette)[0, 0])
    palette.save(tmp_path / "p.gif")
    assert (read_image(tmp_path / "p.gif")[0, 0] == 255).all()


@pytest.mark.parametrize("mode", ["L", "1", "P"])
def test_grey_and_palette(tmp_path: Path, picture: np.ndarray, mode: str) -> None:
    Image.fromarray(picture).convert(mode).save(tmp_path / "a.png")
    expected = np.asarray(Image.fromarray(picture).convert(mode).convert("RGB"))
    assert close(read_image(tmp_path / "a.png"), expected, 0)


@pytest.mark.parametrize("ending", ["png", "tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits(tmp_path: Path, picture: np.ndarray, ending: str, channels: int) -> None:
    deep = picture.astype(np.uint16) * 257
    stored = deep[..., 0] if channels == 1 else deep
    assert cv2.imwrite(str(tmp_path / f"a.{ending}"), stored[..., ::-1] if channels == 3 else stored)
    expected = picture if channels == 3 else picture[..., :1].repeat(3, axis=-1)
    assert close(read_image(tmp_path / f"a.{ending}"), expected, 1)


@pytest.mark.parametrize("scale", [1 / 255, 1.0, 257.0])
def test_floating_point_grey(tmp_path: Path, picture: np.ndarray, scale: float) -> None:
    Image.fromarray(picture[..., 0].astype(np.float32) * scale).save(tmp_path / "a.tiff")
    assert close(read_image(tmp_path / "a.tiff"), picture[..., :1].repeat(3, axis=-1), 1)


def test_cmyk_jpeg(tmp_path: Path, picture: np.ndarray) -> None:
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    assert close(read_image(tmp_path / "a.jpg"), picture, 4)


def test_colour_profiles_are_applied(tmp_path: Path, picture: np.ndarray) -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    Image.fromarray(picture).save(tmp_path / "srgb.png", icc_profile=srgb.tobytes())
    assert close(read_image(tmp_path / "srgb.png"), picture, 0)
    swapped = bytearray(srgb.tobytes())  # red and green primaries change places: a profile nobody can mistake for sRGB
    swapped[swapped.index(b"rXYZ") : swapped.index(b"rXYZ") + 4] = b"tmp_"
    swapped[swapped.index(b"gXYZ") : swapped.index(b"gXYZ") + 4] = b"rXYZ"
    swapped[swapped.index(b"tmp_") : swapped.index(b"tmp_") + 4] = b"gXYZ"
    profile = bytes(swapped).replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be")).replace(b"sRGB", b"test")
    Image.fromarray(picture).save(tmp_path / "other.png", icc_profile=profile)
    assert close(read_image(tmp_path / "other.png"), picture[..., [1, 0, 2]], 3)
    Image.fromarray(picture).save(tmp_path / "broken.png", icc_profile=b"no profile at all")
    assert close(read_image(tmp_path / "broken.png"), picture, 0)


def test_a_truncated_jpeg_is_read_as_far_as_it_goes(tmp_path: Path, picture: np.ndarray) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg", quality=98)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) * 3 // 4])
    read = read_image(tmp_path / "cut.jpg").astype(int)
    assert np.abs(read[:40] - read_image(tmp_path / "a.jpg")[:40]).max() == 0


def test_bad_pictures_are_named_in_one_line(tmp_path: Path, picture: np.ndarray) -> None:
    (tmp_path / "text.jpg").write_text("not a picture")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n")
    Image.fromarray(picture).save(tmp_path / "a.jpg")
    (tmp_path / "stub.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:100])
    Image.fromarray(picture).save(tmp_path / "a.png")
    broken = bytearray((tmp_path / "a.png").read_bytes())
    broken[60:80] = bytes(20)
    (tmp_path / "broken.png").write_bytes(broken)
    Image.fromarray(picture[:63]).save(tmp_path / "tiny.png")
    Image.new("1", (20_000, 5_001)).save(tmp_path / "huge.png")
    Image.new("1", (60_000, 10_000)).save(tmp_path / "bomb.png")
    cases = {
        "text.jpg": "not a picture", "empty.jpg": "0 bytes", "script.png": "not a picture", "stub.jpg": "picture",
        "broken.png": "picture", "tiny.png": "96x63; at least 64", "huge.png": "20000x5001; more than 100 megapixels",
        "bomb.png": "more than 100 megapixels", "none.jpg": "does not exist", ".": "is a folder",
    }  # fmt: skip
    for name, words in cases.items():
        with pytest.raises(InputError, match=words) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(tmp_path) in str(caught.value)


def test_permissions(tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.png", picture)

    def refuse(self: Path, *_: object, **__: object) -> None:  # root, as whom tests may run, may do everything
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"a.png cannot be read \(Permission denied\)"):
        read_image(tmp_path / "a.png")
    monkeypatch.setattr(Path, "touch", refuse)
    with pytest.raises(OutputError, match=r"b.png cannot be written \(Permission denied\); choose another folder"):
        write_image(tmp_path / "b.png", picture)


def test_writing_is_whole_or_not_at_all(tmp_path: Path, picture: np.ndarray) -> None:
    for name, tolerance in (("a.png", 0), ("a.jpg", 2)):
        write_image(tmp_path / name, picture)
        assert close(read_image(tmp_path / name), picture, tolerance)
    with pytest.raises(TypeError):
        write_image(tmp_path / "a.png", picture.astype(np.complex128))
    with pytest.raises(OutputError, match="make the folder first"):
        write_image(tmp_path / "none" / "a.png", picture)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jpg", "a.png"]
    assert close(read_image(tmp_path / "a.png"), picture, 0)
