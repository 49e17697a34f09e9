"""Files that are called images and are none: what a folder, a list and an upload may hold, whoever reads them."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

PIXELS = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def encoded(suffix: str, **options) -> bytes:
    held = io.BytesIO()
    Image.fromarray(PIXELS).save(held, format=suffix, **options)
    return held.getvalue()


def png_of(width: int, height: int, *before: tuple[bytes, bytes]) -> bytes:
    """A whole header of a PNG with that size, chunks `before` the data, and one small block of data."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), *before, (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


def float_tiff() -> bytes:
    held = io.BytesIO()
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(held, format="TIFF")
    return held.getvalue()


JPEG = encoded("JPEG")
BAD: dict[str, bytes] = {
    "empty.png": b"",
    "one byte.png": b"\x89",
    "text.png": b"no image at all\n" * 50,
    "html.jpg": b"<!DOCTYPE html><html>404</html>",
    "zip.png": b"PK\x03\x04" + bytes(100),
    "zeros.bmp": bytes(4096),
    "random.jpg": np.random.default_rng(2).bytes(4096),
    "elf.gif": b"\x7fELF" + bytes(200),
    "pdf.tif": b"%PDF-1.7\n" + bytes(100),
    "svg.png": b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    "pickle.png": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "half.png": encoded("PNG")[:300],
    "half.bmp": encoded("BMP")[:300],
    "half.gif": encoded("GIF")[:100],
    "half.tif": encoded("TIFF")[:300],
    "half.webp": encoded("WEBP", lossless=True)[:300],
    "half.jp2": encoded("JPEG2000")[:60],
    "head.jpg": encoded("JPEG")[:20],
    "half.ppm": encoded("PPM")[:100],
    "signature.png": encoded("PNG")[:8],
    "crc.png": encoded("PNG").replace(b"IDAT", b"IDAU", 1),
    "wide.png": png_of(2**31 - 1, 1),
    "bomb.png": png_of(60_000, 60_000),
    "text bomb.png": png_of(16, 16, (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64 * 2**20)))),
    "profile bomb.png": png_of(16, 16, (b"iCCP", b"profile\0\0" + zlib.compress(bytes(64 * 2**20)))),
    "bomb.gif": encoded("GIF")[:6] + struct.pack("<HH", 65_000, 65_000) + encoded("GIF")[10:],
    "bomb.jpg": JPEG[: JPEG.index(b"\xff\xc0") + 5] + b"\xff\xdc\xff\xdc" + JPEG[JPEG.index(b"\xff\xc0") + 9 :],
    "no pixels.png": png_of(0, 0),
    "short.png": png_of(500, 500),
    "nan.tif": float_tiff(),
    "offsets.tif": b"II*\0" + struct.pack("<I", 2**31) + bytes(100),
    "circular.tif": b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 0) + struct.pack("<I", 8),
    "header.bmp": b"BM" + struct.pack("<IHHI", 100, 0, 0, 54) + struct.pack("<IiiHHI", 40, -5, 2**30, 1, 24, 0),
    "swapped.webp": b"RIFF" + struct.pack("<I", 20) + b"WEBPVP8 " + bytes(30),
    "header.jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(50),
}
