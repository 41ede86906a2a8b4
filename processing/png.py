"""PNG as Pillow reads it, but inflated by ISA-L: zlib took half of the time that a photograph needs.

It must not know what happens to the pixels. It overrides two methods that Pillow calls but does not document;
`tests/processing/test_png.py` fails when a release of Pillow no longer calls them.
"""

from isal import igzip_lib
from PIL import ImageFile, PngImagePlugin

MAX_BLOCK = 0xFFFF  # bytes of a stored block


class Png(PngImagePlugin.PngImageFile):
    """Feeds Pillow's decoder a zlib stream of stored blocks, which its zlib only copies."""

    def load_prepare(self) -> None:
        """Start a new stream. Pillow calls this before each frame, and each frame is a stream of its own."""
        super().load_prepare()
        self._stream = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_ZLIB)
        self._header = b"\x78\x01"

    def load_read(self, read_bytes: int) -> bytes:
        """The next stored block. Reads the packed data in pieces of `read_bytes`; raises `OSError` if it is damaged."""
        if ImageFile.LOAD_TRUNCATED_IMAGES:  # zlib decodes every row before the damage
            return super().load_read(read_bytes)
        plain = b""
        while not plain and not self._stream.eof:
            packed = super().load_read(read_bytes) if self._stream.needs_input else b""
            if self._stream.needs_input and not packed:
                break
            try:
                plain = self._stream.decompress(packed, MAX_BLOCK)
            except igzip_lib.error as error:  # type: ignore[misc]  # the stub calls the class an instance
                raise OSError("broken data stream") from error
        if not plain:
            return b""
        size = len(plain)
        block = self._header, b"\0", size.to_bytes(2, "little"), (MAX_BLOCK - size).to_bytes(2, "little"), plain
        self._header = b""
        return b"".join(block)  # never marked as the last: the decoder stops after the last row
