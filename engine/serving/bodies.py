"""Bodies of requests: read within bounds, and parsed without running or allocating what they claim.

The formats are .npy arrays, raw float32 frames, WAV files and JSON. The sizes that a header claims are compared with
the bytes that are there before anything of that size is allocated.
"""

from __future__ import annotations

import asyncio
import io
import json
import math
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.types import Receive

from engine.audio import riff
from engine.audio.npy import NPY_MAGIC, check_size, read_header
from engine.audio.spectrogram import mel, mel_settings
from engine.audio.wav import resample, to_mono
from engine.checks.arrays import FloatArray
from engine.checks.mels import check_mel, fit_to_kind
from engine.config import Config
from engine.errors import InputError, UnavailableError
from engine.serving.limits import Limits
from engine.serving.problems import Problem
from engine.serving.work import within

NPY = ("application/x-npy", "application/npy")
RAW = ("application/octet-stream",)
WAV = ("audio/wav", "audio/x-wav", "audio/wave", "audio/vnd.wave")
JSON = ("application/json",)
FLOATS = ("float16", "float32", "float64")
MAX_TEXT = 64  # characters of an option in JSON
LOWEST_RATE = 1000  # Hz


class Gone(Exception):  # noqa: N818
    """The client left before it had an answer."""


class Bodies:
    """The bodies that are in memory at once.

    Attributes:
        limits: the bounds.
        held: bytes in memory.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.held = 0

    @asynccontextmanager
    async def read(self, receive: Receive, kind: str, claimed: str | None) -> AsyncIterator[bytes]:
        """Read the body of a request, and count it until the block ends.

        Args:
            receive: of the request.
            kind: its media type.
            claimed: its header Content-Length.

        Raises:
            Problem: the body is too large, too slow, or too much beside the other bodies.
            Gone: the client left.
        """
        most = self.limits.json_bytes if kind in JSON else self.limits.body_bytes
        if claimed is not None and claimed.isdecimal() and int(claimed[:20]) > most:
            raise _too_large(most, int(claimed[:20]))
        data = bytearray()
        try:
            try:
                await within(self.limits.body_seconds, self._receive(receive, data, most))
            except asyncio.TimeoutError:
                raise Problem(408, f"body: expected all of it within {self.limits.body_seconds:g} s") from None
            yield bytes(data)
        finally:
            self.held -= len(data)

    async def _receive(self, receive: Receive, data: bytearray, most: int) -> None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Gone
            part = message.get("body", b"")
            if len(data) + len(part) > most:
                raise _too_large(most, len(data) + len(part))
            if self.held + len(part) > self.limits.total_body_bytes:
                raise Problem(429, "the service holds too many bodies now; send it again later", {"Retry-After": "2"})
            data += part
            self.held += len(part)
            if not message.get("more_body"):
                return


def media_type(header: str | None) -> str:
    """Return the media type of a Content-Type header, in lower case and without parameters.

    Args:
        header: the header, None if there is none.
    """
    return (header or "").partition(";")[0].strip().lower()


def parse_mel(body: bytes, kind: str, config: Config, limits: Limits) -> tuple[FloatArray, dict[str, Any]]:
    """Return the mel of a body, checked as `Voice.vocode` checks it, and the options that stand beside it in JSON.

    Args:
        body: the body.
        kind: its media type; an .npy array is also recognized by its first bytes.
        config: of the network.
        limits: the bounds.

    Returns:
        (float32 [M, T], options).

    Raises:
        InputError: the body is damaged, or is no mel of this network.
        Problem: the media type is unknown, or the audio would be too long.
    """
    options: dict[str, Any] = {}
    if kind in NPY or (kind in RAW and body[:6] == NPY_MAGIC):
        array = parse_npy(body)
    elif kind in RAW:
        array = parse_frames(body, config.n_mels).T
    elif kind in WAV:
        array = mel_of_wav(body, config, limits)
    elif kind in JSON:
        array, options = parse_json_mel(body, config, limits)
    else:
        expected = ", ".join((NPY[0], RAW[0], WAV[0], JSON[0]))
        raise Problem(415, f"Content-Type: expected {expected}, got {kind!r:.80}", {"Accept-Post": expected})
    if array.ndim == 3 and len(array) == 1:
        array = array[0]
    if array.ndim == 2:
        check_length(array.shape[1] * config.hop, config.sample_rate, limits.max_seconds)
    with np.errstate(over="ignore"):  # becomes infinite, which check_mel refuses
        single = array.astype(np.float32)
    if single.ndim != 2:
        raise InputError(f"mel: expected shape [{config.n_mels}, T], got shape {tuple(single.shape)}")
    fitted: FloatArray = fit_to_kind(check_mel(single, config), config.mel_kind).items[0]
    return np.ascontiguousarray(fitted), options


def parse_npy(body: bytes) -> npt.NDArray[Any]:
    """Return the array of an .npy file.

    NumPy's own reader allocates what the header claims. Here the header must agree with the length of the body.

    Args:
        body: the file.

    Raises:
        InputError: it is no .npy file of floats, or its header does not agree with its length.
    """
    stream = io.BytesIO(body)
    try:
        header = read_header(stream)
        if header.dtype.name not in FLOATS:
            raise InputError(f"expected float16, float32 or float64, got {header.dtype!s:.80}")
        check_size(header, len(body) - stream.tell(), exact=True)
    except InputError as error:
        raise InputError(f"body: {error}") from None
    flat = np.frombuffer(body, header.dtype, offset=stream.tell())
    return flat.reshape(header.shape, order="F" if header.is_fortran else "C")


def parse_frames(body: bytes, bands: int) -> FloatArray:
    """Return raw frames, little-endian float32 with the bands of a frame together.

    Args:
        body: the bytes.
        bands: M.

    Returns:
        float32 [n, M].

    Raises:
        InputError: the bytes are not whole frames.
    """
    if len(body) % (4 * bands):
        raise InputError(f"mel: expected whole frames of {bands} float32 values, got {len(body)} bytes")
    return np.frombuffer(body, "<f4").reshape(-1, bands).astype(np.float32, copy=False)


def mel_of_wav(body: bytes, config: Config, limits: Limits) -> FloatArray:
    """Return the mel of a recording, which is resampled to the network's rate if soxr is installed.

    Args:
        body: a WAV file of PCM or float; several channels are averaged.
        config: of the network.
        limits: the bounds.

    Returns:
        float32 [M, T].

    Raises:
        InputError: the file is damaged or too short, or the network's mels cannot be computed.
        Problem: it is no plain WAV file, is too long, or has another rate.
    """
    samples, rate = parse_wav(body, limits.max_seconds)
    settings = mel_settings(config)
    if rate != config.sample_rate:
        try:
            samples = resample(samples, rate, config.sample_rate)
        except UnavailableError:
            raise Problem(415, f"body: expected a WAV file of {config.sample_rate} Hz, got {rate} Hz") from None
    return mel(samples, config.sample_rate, **settings)


def parse_wav(body: bytes, max_seconds: float) -> tuple[FloatArray, int]:
    """Return the samples of a WAV file as one channel, and their rate.

    Args:
        body: the file.
        max_seconds: the longest audio.

    Raises:
        InputError: the file is damaged.
        Problem: it has another format than PCM or float, or is too long.
    """
    try:
        wav = riff.parse(body)
        if not wav.is_plain:
            raise Problem(415, f"body: expected PCM or float, got {wav.format}; convert it to 16-bit PCM")
        samples, rate = wav.samples(), wav.rate
    except InputError as error:
        raise InputError(f"body: {error}") from None
    if wav.warning:
        raise InputError(f"body: {wav.warning.partition(';')[0]}")
    if rate < LOWEST_RATE:
        raise InputError(f"body: expected a sample rate of at least {LOWEST_RATE} Hz, got {rate}")
    check_length(len(samples), rate, max_seconds)
    return to_mono(samples), rate


def parse_json_mel(body: bytes, config: Config, limits: Limits) -> tuple[npt.NDArray[Any], dict[str, Any]]:
    """Return the mel of a JSON object {"mel": [[...], ...]}, one list per band, and its other entries.

    Args:
        body: the text.
        config: of the network.
        limits: the bounds.

    Raises:
        InputError: it is not JSON, or has another form.
        Problem: the audio would be too long.
    """
    frames = math.ceil(limits.max_seconds * config.sample_rate / config.hop)
    # Every list of a text takes some twenty times its two brackets in memory, so they are counted first.
    lists, values = body.count(b"["), body.count(b",")
    if lists > config.n_mels + 8:
        raise InputError(f"mel: expected a list of {config.n_mels} lists, got {lists} lists")
    if values > (frames + 1) * config.n_mels + MAX_TEXT:
        raise Problem(413, f"mel: expected at most {frames} frames, {limits.max_seconds:g} s of audio, got more")
    options = parse_object(body)
    if "mel" not in options:
        raise InputError("mel: expected it in the JSON object, got none")
    rows = options.pop("mel")
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise InputError("mel: expected a list of lists of numbers, one per band")
    if not all(type(value) in (int, float) for row in rows for value in row):
        raise InputError("mel: expected numbers, got another type")
    if len({len(row) for row in rows}) > 1:
        raise InputError("mel: expected as many numbers in every band")
    try:
        return np.asarray(rows, np.float64), options
    except (OverflowError, ValueError):
        raise InputError("mel: expected numbers of float32, got greater ones") from None


def parse_object(body: bytes) -> dict[str, Any]:
    """Return a JSON object whose strings are short.

    Args:
        body: the text.

    Raises:
        InputError: it is not a JSON object, is too deep, or has a value that is not finite.
    """
    if body.count(b'"') > MAX_TEXT or body.count(b"{") > 8:
        raise InputError("body: expected a JSON object of a few entries, got more")
    try:
        values = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"body: expected JSON, got: {str(error) or type(error).__name__:.120}") from None
    if not isinstance(values, dict):
        raise InputError(f"body: expected a JSON object, got a {type(values).__name__}")
    return values


def check_length(samples: int, rate: int, max_seconds: float, purpose: str = "", remedy: str = "split it") -> None:
    """Raise Problem if audio is longer than the service permits.

    Args:
        samples: its length.
        rate: in Hz.
        max_seconds: the limit.
        purpose: of the audio if the limit is not that of every request, for the message.
        remedy: ends the message.
    """
    if samples > max_seconds * rate:
        limit = f"{max_seconds:g} s of audio{' ' * bool(purpose)}{purpose}"
        raise Problem(413, f"body: expected at most {limit}, got {samples / rate:.1f} s; {remedy}")


def options_of(query: Mapping[str, str], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a request, from its query and its JSON object.

    Args:
        query: the parameters of the address.
        values: the entries of the object.

    Raises:
        InputError: both have an option of one name.
    """
    if twice := sorted(set(query) & set(values)):
        raise InputError(f"{twice[0]:.40}: expected it in the address or in the body, got both")
    return {**query, **values}


def _too_large(most: int, got: int) -> Problem:
    return Problem(413, f"body: expected at most {most} bytes, got {got} or more")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"expected finite numbers, got {name}")
