"""The routes that compute: a mel or a recording to audio, sound without a mel, and the mel of a recording."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import numpy as np

from engine.audio.griffin_lim import griffin_lim
from engine.audio.pcm import wav_header
from engine.checks.arguments import check_clip_length, check_guidance, check_reflection, check_temperature
from engine.checks.arrays import FloatArray
from engine.diffusion.labels import resolve_labels
from engine.errors import InputError
from engine.sampling.item import stop_if_set
from engine.serving import work
from engine.serving.bodies import JSON, WAV, check_length, mel_of_wav, options_of, parse_mel, parse_object
from engine.serving.calls import Call
from engine.serving.options import GENERATE, VOCODE, Options, parse_options
from engine.serving.problems import Problem
from engine.voice import Voice
from engine.voice.draft import GRIFFIN_LIM, RTISI_LA, check_frames


async def vocode(call: Call, body: bytes) -> None:
    """Answer POST /v1/vocode.

    Args:
        call: the request.
        body: a mel or a recording.
    """
    service = call.service
    voice = service.vocoder(None)
    mel, values = await _parsed(call, partial(parse_mel, body, call.kind, voice.config, service.limits))
    options = parse_options(options_of(call.request.query_params, values), VOCODE, voice.config, service.steps)
    voice = service.vocoder(options.precision)
    samples = mel.shape[1] * voice.hop
    check_reflection(voice.config, samples)
    if options.draft == GRIFFIN_LIM:
        remedy = f"split it, or take the draft {RTISI_LA!r}"
        check_length(samples, voice.sample_rate, service.limits.baseline_seconds, "for Griffin-Lim", remedy)
        check_frames(mel.shape[1])
    answer = _Answer(call, options, voice.sample_rate)
    async with call.slot(), _vocoded(call, voice, mel, options) as chunks:
        await (answer.stream(chunks, samples) if options.stream else answer.whole(chunks))


async def generate(call: Call, body: bytes) -> None:
    """Answer POST /v1/generate.

    Args:
        call: the request.
        body: empty, or a JSON object of options.
    """
    service, voice = call.service, call.service.generator
    if voice is None:
        raise Problem(501, "this service has no network that generates sound; start it with --generator")
    if body and call.kind not in JSON:
        raise Problem(415, f"Content-Type: expected {JSON[0]} or no body, got {call.kind!r:.80}")
    values = parse_object(body) if body else {}
    merged = options_of(call.request.query_params, values)
    options = parse_options(merged, GENERATE, voice.config, merged.get("steps", "full"))
    resolve_labels(voice.config.classes, options.label, [options.seed])
    check_guidance(options.guidance, voice.config)
    check_temperature(options.temperature, voice.config)
    samples = check_clip_length(voice.config, options.seconds, None, None)
    check_reflection(voice.config, samples, "seconds")
    check_length(samples, voice.sample_rate, service.limits.max_seconds)
    cancel = threading.Event()
    answer = _Answer(call, options, voice.sample_rate)
    async with (
        call.slot(),
        work.running(
            service.executor, work.generate(voice, options, cancel), cancel, service.limits.outbox_bytes
        ) as chunks,
    ):
        await answer.whole(chunks)


async def analyze(call: Call, body: bytes) -> None:
    """Answer POST /v1/mel: a recording to the raw frames that /v1/stream takes.

    Args:
        call: the request.
        body: a WAV file.
    """
    config = call.service.vocoder(None).config
    if call.kind not in WAV:
        raise Problem(415, f"Content-Type: expected {WAV[0]}, got {call.kind!r:.80}", {"Accept-Post": WAV[0]})
    mel = await _parsed(call, partial(mel_of_wav, body, config, call.service.limits))
    frames = np.ascontiguousarray(mel.T).astype("<f4").tobytes()
    await call.start(
        {"Content-Type": "application/octet-stream", "X-Mel-Bands": str(len(mel)), "X-Mel-Frames": str(mel.shape[1])},
        len(frames),
    )
    await call.write(frames, more=False)


async def invert(call: Call, body: bytes) -> None:
    """Answer POST /v1/griffin-lim: the waveform of the same mel without a network, to compare with.

    Args:
        call: the request.
        body: as of /v1/vocode.
    """
    service, voice = call.service, call.service.vocoder(None)
    config = voice.config
    if config.mel_kind != "lmnt":
        raise Problem(501, f"Griffin-Lim inverts mels of kind 'lmnt'; this voice takes {config.mel_kind!r}")
    mel, values = await _parsed(call, partial(parse_mel, body, call.kind, config, service.limits))
    options = parse_options(options_of(call.request.query_params, values), ("seed", "format"), config, service.steps)
    check_length(mel.shape[1] * voice.hop, voice.sample_rate, service.limits.baseline_seconds, "for Griffin-Lim")
    cancel = threading.Event()

    def run(outbox: work.Outbox) -> None:
        stop = partial(stop_if_set, cancel)
        audio = griffin_lim(mel, voice.sample_rate, seed=options.seed, threads=voice.threads, each_round=stop)
        outbox.put(options.encode(audio))

    answer = _Answer(call, options, voice.sample_rate)
    async with (
        call.slot(),
        work.running(service.executor, run, cancel, service.limits.outbox_bytes) as chunks,
    ):
        await answer.whole(chunks)


class _Answer:
    """Audio as the answer of a call: a WAV file, or the samples alone."""

    def __init__(self, call: Call, options: Options, sample_rate: int) -> None:
        accept = call.request.headers.get("accept", "")
        self._is_pcm = "audio/pcm" in accept.lower()
        if not self._is_pcm and options.format != "s16":
            raise InputError(f"format: expected s16 for a WAV file, got {options.format}; send 'Accept: audio/pcm'")
        self._call = call
        self._options = options
        self._rate = sample_rate
        kind = f"audio/pcm; rate={sample_rate}; channels=1; format={options.format}" if self._is_pcm else "audio/wav"
        self._headers = {"Content-Type": kind, "X-Sample-Rate": str(sample_rate), "X-Seed": str(options.seed)}

    async def whole(self, chunks: AsyncIterator[bytes]) -> None:
        """Send the audio when it is complete.

        Args:
            chunks: encoded samples.
        """
        parts = []
        async for chunk in chunks:
            self._call.first_audio()
            parts.append(chunk)
        audio = b"".join(parts)
        self._count(audio)
        head = b"" if self._is_pcm else wav_header(len(audio), self._rate)
        await self._call.start(self._headers, len(head) + len(audio))
        await self._call.write(head + audio, more=False)

    async def stream(self, chunks: AsyncIterator[bytes], samples: int) -> None:
        """Send the audio as it becomes final.

        Args:
            chunks: encoded samples.
            samples: the length of the audio, for the header of a WAV file.
        """
        head = b"" if self._is_pcm else wav_header(samples * self._options.width, self._rate)
        async for chunk in chunks:
            self._call.first_audio()
            if not self._call.is_started:
                await self._call.start(self._headers)
            await self._call.write(head + chunk, more=True)
            self._count(chunk)
            head = b""
        await self._call.write(b"", more=False)

    def _count(self, audio: bytes) -> None:
        self._call.audio_seconds += len(audio) / self._options.width / self._rate


async def _parsed(call: Call, parse: Callable[[], Any]) -> Any:
    """Run a parser in a thread of its own: the event loop serves the other requests meanwhile."""
    with call.timed("parse"):
        return await asyncio.get_running_loop().run_in_executor(call.service.parsers, parse)


@asynccontextmanager
async def _vocoded(call: Call, voice: Voice, mel: FloatArray, options: Options) -> AsyncIterator[AsyncIterator[bytes]]:
    """Run the vocoder for the block and yield its encoded audio.

    A CPU computes it in a stream, or in one piece if its draft needs the whole mel, and a GPU in a batch.
    """
    service = call.service
    if voice.choice.precision in service.batchers:
        batcher = service.batchers[voice.choice.precision]
        audio = await batcher.vocode(mel, options.steps, options.seed, options.draft, options.match_mel)
        yield _one(options.encode(audio))
        return
    cancel = threading.Event()
    if options.draft != GRIFFIN_LIM:
        slots, energy_min = service.limits.slots, service.energy_min
        run = work.vocode(voice, iter([mel]), options, energy_min=energy_min, streams=slots, cancel=cancel)
    else:
        run = work.refine(voice, mel, options, energy_min=service.energy_min, cancel=cancel)
    async with work.running(service.executor, run, cancel, service.limits.outbox_bytes) as chunks:
        yield chunks


async def _one(chunk: bytes) -> AsyncIterator[bytes]:
    yield chunk
