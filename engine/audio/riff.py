"""WAV containers: chunks, formats and samples, with the faults of headers in the field.

Read are RIFF, RIFX (big-endian), and RF64 and BW64, whose sizes have 64 bits. The size of the RIFF chunk is ignored.
The size of the data chunk is judged by these rules, in this order:

1. It fits into the file: it is right. Chunks behind it are ignored, and so are zeros and a few other bytes; a warning
   states how many bytes there are of anything else, which may be audio that the header was never corrected for.
2. It is unknown: 0 with bytes behind it that are not chunks, or a size within 64 KiB of 2^31, 2^32, 2^63 or 2^64.
   Programs that write into a pipe leave these sizes. All bytes up to the end of the file are audio.
3. It is at most 128 bytes too long, or counts the header in: all bytes up to the end of the file are audio.
4. It is 100 MB or more, and less than half of it is there: probably another size that stands for unknown. All bytes
   up to the end of the file are audio, and a warning states how many are missing.
5. Otherwise the file was cut short: an error.

The bytes of an incomplete last frame are dropped.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from engine.audio.pcm import PCM
from engine.checks.arrays import FloatArray
from engine.errors import InputError

SIGNATURES = (b"RIFF", b"RIFX", b"RF64", b"BW64")
FLOAT, EXTENSIBLE = 3, 0xFFFE
BITS = {PCM: (8, 16, 24, 32), FLOAT: (32, 64)}
FORMATS = {  # names of WAV format tags that soundfile reads, for messages
    2: "Microsoft ADPCM",
    6: "A-law",
    7: "mu-law",
    17: "IMA ADPCM",
    49: "GSM",
    85: "MP3",
}
CHUNKS = (b"fmt ", b"data", b"fact", b"LIST", b"JUNK", b"PEAK", b"bext", b"id3 ")  # frequent names
UNKNOWN = (2**31, 2**32, 2**63, 2**64)  # sizes near these stand for an unknown size
NEAR = 2**16  # bytes
SLACK = 128  # bytes: a size that is longer than the audio by a header or by padding
IMPLAUSIBLE = 10**8  # bytes: 38 minutes of 16-bit mono audio at 22.05 kHz
WIDEST = 8  # bytes of a sample


@dataclass(frozen=True)
class Wav:
    """The format and the audio bytes of a WAV file.

    Attributes:
        tag: the format tag; for extensible formats that of the subformat.
        channels: the number of channels.
        rate: in Hz.
        bits: of one sample.
        data: the audio.
        order: the byte order, "<" or ">".
        fmt: the chunk of this name.
        fact: the chunk of this name, empty if there is none or if its length is that of an unknown size.
        warning: how many bytes of audio are missing, "" if none are.
    """

    tag: int
    channels: int
    rate: int
    bits: int
    data: memoryview
    order: str
    fmt: bytes
    fact: bytes
    warning: str

    @property
    def format(self) -> str:
        """The name of the format and its tag."""
        return f"{FORMATS.get(self.tag, 'format')} ({self.tag:#06x})"

    @property
    def is_plain(self) -> bool:
        """Whether the samples are PCM or float."""
        return self.tag in BITS

    def samples(self) -> FloatArray:
        """Decode PCM or float audio to float32 [n, channels]."""
        block = self._block()
        frames = len(self.data) // block
        if len(self.data) and not frames:
            raise InputError(f"expected at least one frame of {block} bytes, got {len(self.data)} bytes of audio")
        data = self.data[: frames * block]
        if self.tag == FLOAT:
            decoded = np.frombuffer(data, f"{self.order}f{self.bits // 8}")
            with np.errstate(over="ignore"):
                return decoded.astype(np.float32).reshape(-1, self.channels)
        return _decode(data, self.bits, self.order).reshape(-1, self.channels)

    def corrected(self) -> bytes:
        """Return a WAV file with the same format and audio, and with right sizes, for other readers."""
        first, body = (b"RIFF", b"WAVE") if self.order == "<" else (b"RIFX", b"WAVE")
        for name, content in ((b"fmt ", self.fmt), (b"fact", self.fact), (b"data", bytes(self.data))):
            if content or name == b"data":
                body += name + struct.pack(f"{self.order}I", len(content)) + content + b"\0" * (len(content) % 2)
        return first + struct.pack(f"{self.order}I", len(body)) + body

    def _block(self) -> int:
        """Return the bytes of one frame, after checking the format.

        The block size of the header is not used: it often is 0 or wrong. Only a header whose block size and bytes per
        second agree on wider samples is refused, because they may be right.
        """
        if self.bits not in BITS[self.tag]:
            *others, last = BITS[self.tag]
            expected = ", ".join(map(str, others)) + f" or {last}"
            raise InputError(f"expected {expected} bits per sample, got {self.bits}")
        if self.channels == 0:
            raise InputError("expected one channel, got 0")
        if self.rate == 0:
            raise InputError("expected a sample rate above 0 Hz, got 0")
        block = self.channels * self.bits // 8
        speed, stated = struct.unpack_from(f"{self.order}IH", self.fmt, 8)
        if block < stated <= self.channels * WIDEST and stated % self.channels == 0 and speed == self.rate * stated:
            raise InputError(
                f"expected a consistent fmt chunk, got blocks of {stated} bytes for {self.channels} x {self.bits} bits "
                f"at {self.rate} Hz"
            )
        return block


def is_wav(start: bytes) -> bool:
    """Return whether a file is a WAV file.

    Args:
        start: the first 12 bytes of the file.
    """
    return start[:4] in SIGNATURES and start[8:12] == b"WAVE"


def without_tag(content: bytes) -> bytes:
    """Return a file without the ID3 tag that some programs put in front of a WAV file; every other file as it is.

    Args:
        content: the file.
    """
    if content[:3] != b"ID3" or len(content) < 10:
        return content
    size = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True))
    size += 10 * bool(content[5] & 0x10)  # a footer
    return content[size:] if is_wav(content[size : size + 12]) else content


def parse(content: bytes) -> Wav:
    """Find the format and the audio of a WAV file.

    Args:
        content: the file.

    Raises:
        InputError: it is not a WAV file, is damaged or was cut short.
    """
    if content[:4] not in SIGNATURES:
        raise InputError(f"expected a RIFF WAV file, got a file that starts with {content[:4]!r}")
    if content[8:12] != b"WAVE":
        raise InputError(f"expected a RIFF WAV file, got {content[:4]!r} with {content[8:12]!r}")
    order = ">" if content[:4] == b"RIFX" else "<"
    chunks, warning, is_unknown = _chunks(content, order)
    if b"fmt " not in chunks or b"data" not in chunks:
        raise InputError("expected a fmt and a data chunk, got a truncated or damaged WAV file")
    fmt = bytes(chunks[b"fmt "])
    if len(fmt) < 16:
        raise InputError(f"expected a fmt chunk of at least 16 bytes, got {len(fmt)}")
    tag, channels, rate, _, _, bits = struct.unpack_from(f"{order}HHIIHH", fmt)
    if tag == EXTENSIBLE and len(fmt) >= 40:
        (tag,) = struct.unpack_from(f"{order}H", fmt, 24)
    fact = b"" if is_unknown else bytes(chunks.get(b"fact", b""))
    return Wav(tag, channels, rate, bits, chunks[b"data"], order, fmt, fact, warning)


def _chunks(content: bytes, order: str) -> tuple[dict[bytes, memoryview], str, bool]:
    """Return the first chunk of each name, up to and including the audio.

    Returns:
        The chunks, the warning about missing audio ("" for none), and whether the size of the audio is not as stated.
    """
    view, offset, chunks = memoryview(content), 12, dict[bytes, memoryview]()
    while offset + 8 <= len(content):
        name, size = struct.unpack_from(f"{order}4sI", content, offset)
        offset += 8
        rest = view[offset:]
        if name == b"data":
            if size == 2**32 - 1 and content[:4] in (b"RF64", b"BW64") and len(chunks.get(b"ds64", b"")) >= 16:
                (size,) = struct.unpack_from("<Q", chunks[b"ds64"], 8)
            if size == 0 and content[offset : offset + 4] == b"data":  # an empty chunk before that of the audio
                continue
            length, warning = _audio_length(size, rest, offset, order)
            chunks[name] = rest[:length]
            return chunks, warning, length != size
        if size > len(rest):
            raise InputError(f"expected {size} bytes in chunk {name!r}, got {len(rest)}: the file is truncated")
        chunks.setdefault(name, rest[:size])
        offset += size
        offset += _padding(view, offset, size, order)
    return chunks, "", False


def _audio_length(size: int, rest: memoryview, begin: int, order: str) -> tuple[int, str]:
    """Judge the size of the data chunk by the rules of this module.

    Args:
        size: as stated.
        rest: of the file, behind the header of the chunk.
        begin: the position of the rest in the file.
        order: the byte order.

    Returns:
        The length of the audio in bytes, and a warning, "" for none.

    Raises:
        InputError: the file was cut short.
    """
    there = len(rest)
    missing = size - there
    is_unknown = size == 0 or any(abs(size - unknown) <= NEAR for unknown in UNKNOWN)
    if missing <= 0:
        behind = rest[size + size % 2 :]
        if _are_chunks(behind, order):
            return size, ""
        if is_unknown:
            return there, ""
        is_short = len(behind) <= SLACK or not np.frombuffer(behind, np.uint8).any()
        note = f"got {len(behind)} bytes behind the {size} bytes of audio that the header states; they are not read"
        return size, "" if is_short else note
    if there and (is_unknown or missing <= SLACK or missing in (begin, begin - 8)):
        return there, ""
    if there and size >= IMPLAUSIBLE and missing > there:
        note = f"expected {size} bytes of audio, as the header states, got {there}: {missing} bytes are missing"
        return there, f"{note}; what is there is read"
    raise InputError(
        f"expected {size} bytes of audio, got {there}: the file is truncated, {missing} bytes are missing; "
        "'ffmpeg -i IN OUT.wav' saves what is there"
    )


def _are_chunks(rest: memoryview, order: str) -> bool:
    """Return whether bytes are chunks as a whole; True for none."""
    offset = 0
    while offset + 8 <= len(rest):
        name, size = struct.unpack_from(f"{order}4sI", rest, offset)
        if not _is_name(name) or size > len(rest) - offset - 8:
            return False
        offset += 8 + size
        offset += _padding(rest, offset, size, order)
    return offset - len(rest) in (0, 1)  # 1: the last pad byte may be missing


def _padding(content: memoryview, offset: int, size: int, order: str) -> int:
    """Return the bytes of padding at the end of a chunk: 1 for odd sizes, but some programs forget it."""
    return size % 2 and int(_likelihood(content, offset + 1, order) >= _likelihood(content, offset, order))


def _likelihood(content: memoryview, offset: int, order: str) -> int:
    """Return how likely a chunk begins at an offset, from 0 to 3: by its name, and by whether its size fits."""
    name = bytes(content[offset : offset + 4])
    if name in CHUNKS:
        return 3
    if not _is_name(name) or offset + 8 > len(content):
        return 0
    (size,) = struct.unpack_from(f"{order}I", content, offset + 4)
    return 2 if size <= len(content) - offset - 8 else 1


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= letter <= 0x7E for letter in name)


def _decode(data: memoryview, bits: int, order: str) -> FloatArray:
    if bits == 8:  # the only unsigned format
        return (np.frombuffer(data, np.uint8).astype(np.float32) - np.float32(128)) / np.float32(128)
    if bits == 24:
        words = np.zeros((len(data) // 3, 4), np.uint8)
        place = slice(1, 4) if order == "<" else slice(0, 3)
        words[:, place] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return words.view(f"{order}i4")[:, 0].astype(np.float32) / np.float32(2**31)
    return np.frombuffer(data, f"{order}i{bits // 8}").astype(np.float32) / np.float32(2 ** (bits - 1))
