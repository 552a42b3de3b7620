"""Audio files and resampling.

WAV files are read and written with NumPy alone. FLAC, Ogg, MP3, AIFF and resampling need the extra `audio`.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from engine.audio import riff
from engine.audio.content import Recording, content_of, reason
from engine.audio.npy import NPY_MAGIC
from engine.audio.pcm import MAX_DATA, Samples, check_wav_name, pcm16, wav_header, writing_wav
from engine.checks.arguments import check_sample_rate
from engine.checks.arrays import FloatArray, to_numpy
from engine.checks.file_kinds import START, mistaken_kind
from engine.errors import InputError, UnavailableError

if TYPE_CHECKING:
    import torch

SIGNATURES = {  # of formats that soundfile reads
    b"fLaC": "FLAC",
    b"OggS": "Ogg",
    b"FORM": "AIFF",
    b"ID3": "MP3",
    b"riff\x2e\x91\xcf\x11": "Wave64",
}
MAX_COUNT = 2**63 - 1  # libsndfile's number of samples for a stream of unknown length
BLOCK = 2**20  # samples per read: a header may claim any length, memory grows with the samples that exist


def read_audio(path: Recording, *, mix: bool = False) -> tuple[FloatArray, int]:
    """Read a recording of one channel.

    WAV files are always readable; FLAC, Ogg, MP3, AIFF and Wave64 need the extra `audio`. The content decides the
    format, not the suffix. WAV files may be RIFF, RIFX, RF64 or BW64, and their sizes may be unknown, as in a file that
    was written into a pipe (`engine.audio.riff` states the rules). If a header states 100 MB or more and less than half
    of it is there, a warning (UserWarning) states how much is missing.

    Args:
        path: the file; or its content, as bytes or as a file opened with mode "rb".
        mix: average several channels into one. Otherwise several channels raise an error, because the mean of two
            microphones, or of a voice and its echo, may not be intended.

    Returns:
        (float32 [n], sample rate in Hz). Integer formats lie in [-1, 1]. The values of float formats do not change.
        Decoded Ogg and MP3 may exceed 1 a little. n may be 0.

    Raises:
        InputError: the file is unreadable, not audio, damaged or truncated, or has several channels without `mix`.
        UnavailableError: the format needs soundfile, which is not installed.
    """
    content, name = content_of(path)
    samples, rate = _channels(content, name, level=2)
    if samples.shape[1] != 1 and not mix:
        raise InputError(
            f"path: {name!r}: expected one channel, got {samples.shape[1]}; extract one, or average them with mix=True"
        )
    return to_mono(samples), rate


def read_channels(path: Recording, name: str | None = None) -> tuple[FloatArray, int]:
    """Read a recording with all its channels.

    Args:
        path: see `read_audio`.
        name: the name of the file in messages; None for its path.

    Returns:
        (float32 [n, channels], sample rate in Hz), otherwise as `read_audio`.

    Raises:
        InputError: the file is unreadable, not audio, damaged or truncated.
        UnavailableError: the format needs soundfile, which is not installed.
    """
    content, label = content_of(path)
    return _channels(content, name or label, level=2)


def _channels(content: bytes, name: str, level: int) -> tuple[FloatArray, int]:
    content = riff.without_tag(content)
    try:
        if not content:
            remedy = "no bytes; an open file at its end needs seek(0)" if name.startswith("<") else "an empty file"
            raise InputError(f"expected audio, got {remedy}")
        if content[:4] in riff.SIGNATURES:
            wav = _parse(content, name, level + 1)
            return (wav.samples(), wav.rate) if wav.is_plain else _read_with_soundfile(wav.corrected(), wav.format)
        form = encoding(content[:16])
        if form is not None:
            return _read_with_soundfile(content, form)
        start = content[:START]
        got = mistaken_kind(start) or _array_kind(start) or f"a file that starts with {content[:4]!r}"
        raise InputError(f"expected WAV, FLAC, Ogg, MP3 or AIFF audio, got {got}")
    except (InputError, UnavailableError) as error:
        raise type(error)(f"path: {name!r}: {error}") from None


def _array_kind(start: bytes) -> str | None:
    """Return what a file of arrays is, which may be a mel, and the remedy; None for other files."""
    kinds = {NPY_MAGIC: "a NumPy array", b"PK\x03\x04": "an archive such as .npz or .pt"}
    kind = next((kind for magic, kind in kinds.items() if start.startswith(magic)), None)
    if kind is None and start[8:10] == b'{"':
        kind = "a safetensors file"
    return kind and f"{kind}; if it is a mel, vocode(mel) turns it into audio"


def to_mono(samples: FloatArray) -> FloatArray:
    """Average all channels.

    Args:
        samples: float32 [n, channels].

    Returns:
        float32 [n].
    """
    if samples.shape[1] == 1:
        return samples[:, 0]
    mono: FloatArray = samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    return mono


def is_encoded(path: Path) -> bool:
    """Return whether the content of a file is audio in another format than WAV; False if it cannot be read.

    Args:
        path: the file.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return False
    return encoding(start) is not None


def encoding(start: bytes) -> str | None:
    """Return the name of an audio format that soundfile reads, None for every other format.

    Args:
        start: the first 16 bytes of a file, or all of a shorter one.
    """
    if start[:1] == b"\xff" and len(start) >= 4 and start[1] & 0xE6 == 0xE2:  # an MPEG frame of layer III
        return "MP3"
    return next((name for signature, name in SIGNATURES.items() if start.startswith(signature)), None)


def resample(audio: Samples | torch.Tensor, sample_rate: int, target: int) -> FloatArray:
    """Convert audio to another sample rate with soxr's high quality, a linear-phase low pass of 20 bits.

    Args:
        audio: [n], float32 or float64, NumPy or torch.
        sample_rate: the rate of the audio in Hz.
        target: the rate of the result in Hz.

    Returns:
        float32 [about n * target / sample_rate]; steep waves may exceed 1 a little.

    Raises:
        InputError: an argument has an impossible value.
        UnavailableError: the rates differ, and soxr (the extra `audio`) is not installed.
    """
    samples = to_numpy(audio, "audio", ("float32", "float64"))
    if samples.ndim != 1:
        raise InputError(f"audio: expected one channel of shape [n], got shape {samples.shape}")
    source, target = check_sample_rate(sample_rate), check_sample_rate(target)
    samples = samples.astype(np.float32, copy=False)
    if source == target:
        return samples
    try:
        import soxr
    except ImportError:
        raise UnavailableError(
            f"resampling from {source} to {target} Hz needs soxr: pip install soxr (the extra 'audio')"
        ) from None
    result: FloatArray = soxr.resample(samples, source, target)
    return result


def read_wav(path: Recording) -> tuple[FloatArray, int]:
    """Read a mono WAV file without any extra.

    The formats are PCM of 8, 16, 24 or 32 bits and float, plain or WAVE_FORMAT_EXTENSIBLE. A sample q of b bits becomes
    q / 2^(b-1), so the audio lies in [-1, 1]. The values of float formats do not change.

    Args:
        path: see `read_audio`.

    Returns:
        (float32 [n], sample rate in Hz). n may be 0.

    Raises:
        InputError: the file is unreadable, not a WAV file, truncated or compressed, or has several channels.
    """
    # The standard library's `wave` reads extensible files, which are common for 24 bits, only from Python 3.12 on.
    content, name = content_of(path)
    try:
        wav = _parse(riff.without_tag(content), name, level=2)
        if not wav.is_plain:
            raise InputError(f"expected PCM or float, got {wav.format}; convert it to 16-bit PCM")
        if wav.channels > 1:
            raise InputError(f"expected one channel, got {wav.channels}; extract or mix one first")
        return wav.samples()[:, 0], wav.rate
    except InputError as error:
        raise InputError(f"path: {name!r}: {error}") from None


def write_wav(path: str | os.PathLike[str] | BinaryIO, audio: Samples | torch.Tensor, sample_rate: int) -> None:
    """Write a 16-bit mono WAV file: q = round(32768 * clip(audio, -1, 1)), at most 32767.

    `read_wav` is the inverse. The file appears under its name only when it is complete
    (`engine.checks.output_files.replacing`).

    Args:
        path: a regular file, or no file yet, in an existing directory; or a file opened for writing bytes, which then
            has what was written until an error. A name that ends as those of another format (.flac, .mp3, .npy) is
            refused.
        audio: [n], finite float32 or float64, NumPy or torch.
        sample_rate: in Hz.

    Raises:
        InputError: audio or sample_rate has an impossible value, or path cannot be written.
    """
    samples = to_numpy(audio, "audio", ("float32", "float64"))
    if samples.ndim != 1:
        raise InputError(f"audio: expected one channel of shape [n], got shape {samples.shape}")
    if samples.size * 2 > MAX_DATA:
        raise InputError(
            f"audio: expected at most {MAX_DATA // 2} samples (the limit of WAV files), got {samples.size}"
        )
    if not np.isfinite(samples).all():
        raise InputError("audio: expected finite values, got NaN or infinity")
    rate = check_sample_rate(sample_rate)
    if isinstance(path, (str, os.PathLike)):
        check_wav_name(path)
    try:
        with _writing(path, rate, samples.size) as write:
            for begin in range(0, len(samples), BLOCK):
                write(samples[begin : begin + BLOCK])
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"path: {path!r:.300}: cannot write it: {reason(error)}") from error


@contextmanager
def _writing(path: str | os.PathLike[str] | BinaryIO, rate: int, count: int) -> Iterator[Callable[[Samples], object]]:
    if callable(getattr(path, "write", None)):
        file: BinaryIO = path  # type: ignore[assignment]
        file.write(wav_header(2 * count, rate))
        yield lambda samples: file.write(pcm16(samples).tobytes())
    else:
        with writing_wav(Path(path).expanduser(), rate) as write:  # type: ignore[arg-type]
            yield write


def _parse(content: bytes, name: str, level: int) -> riff.Wav:
    """Find the format and the audio of a WAV file.

    A warning, attributed to the function that is `level` calls above, says if much of the audio is missing.
    """
    wav = riff.parse(content)
    if wav.warning:
        warnings.warn(f"path: {name!r}: {wav.warning}", UserWarning, stacklevel=level + 1)
    return wav


def _read_with_soundfile(content: bytes, name: str) -> tuple[FloatArray, int]:
    try:
        import soundfile
    except (ImportError, OSError):  # OSError: libsndfile, which it wraps, is missing
        raise UnavailableError(f"reading {name} needs soundfile: pip install soundfile (the extra 'audio')") from None

    class Sequential(soundfile.SoundFile):  # type: ignore[misc]
        # A seekable file is sought after each block, which is inexact in MP3 and fails in a truncated FLAC.
        def seekable(self) -> bool:
            return False

    try:
        with Sequential(io.BytesIO(content)) as file:
            frames, blocks = max(1, BLOCK // file.channels), []
            while len(block := file.read(frames, dtype="float32", always_2d=True)):
                blocks.append(block)
            claimed, rate, channels = file.frames, int(file.samplerate), file.channels
    except (soundfile.SoundFileError, RuntimeError, ValueError) as error:
        why = str(error).rpartition(">: ")[2]  # without the address of the object
        raise InputError(f"expected a {name} file, got a damaged or truncated one: {why:.160}") from None
    samples = np.concatenate([np.zeros((0, channels), np.float32), *blocks])
    if len(samples) != claimed != MAX_COUNT:
        raise InputError(f"expected {claimed} samples, got {len(samples)}: the {name} file is truncated")
    return samples, rate
