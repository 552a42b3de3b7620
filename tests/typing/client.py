"""A client that uses every public function. mypy checks it (tests/test_public_types.py); it is never run."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from typing_extensions import assert_type

import engine

Array = npt.NDArray[np.float32]


def progress(fraction: float) -> None:
    print(f"{fraction:.0%}")


def voices() -> engine.Voice:
    engine.load()
    engine.load("digits")
    engine.load(io.BytesIO(b""), weights="ema")
    with open("weights.pt", "rb") as file:
        engine.load(file)
    engine.load(b"content")
    engine.load("hf://owner/name@v1.0/voice.safetensors")
    assert_type(engine.Voice.from_pretrained("owner/name", revision="v1.0", token=False, threads=2), engine.Voice)
    return engine.load(Path("a.safetensors"), device="cpu", precision="fp32", threads=2, isa="generic", mel_kind="lmnt")


def vocode(voice: engine.Voice, mel: Array, tensor: torch.Tensor) -> None:
    assert_type(engine.vocode(mel), Array)
    assert_type(engine.vocode(tensor), torch.Tensor)
    assert_type(engine.vocode([mel, mel[:, :40]], model=Path("a.pt"), steps="full", seed=[1, 2]), list[Array])
    assert_type(engine.vocode([tensor]), list[torch.Tensor])
    assert_type(voice.vocode(mel, steps=6, seed=3, progress=progress), Array)
    assert_type(voice.vocode(mel, steps="fast"), Array)
    assert_type(voice.vocode(mel, steps=None), Array)
    assert_type(voice.vocode(tensor, schedule=[1e-4, 0.05, 0.5]), torch.Tensor)
    assert_type(voice.vocode([mel], noise=(mel, mel)), list[Array])
    assert_type(voice.vocode(mel, std=mel), Array)
    assert_type(voice.vocode(mel, lengths=[3, 4]), Array)
    assert_type(voice.vocode(tensor, lengths=torch.tensor([3, 4])), torch.Tensor)
    assert_type(voice.vocode(mel, lengths=np.array([3, 4])), Array)
    assert_type(voice.vocode(mel, energy_min=0.1), Array)
    assert_type(voice.predict_noise(mel, 3.5, mel=mel), Array)
    assert_type(voice.predict_noise(tensor, 3, label="3 jackson"), torch.Tensor)
    assert_type(voice.explain(), str)
    assert_type((voice.sample_rate, voice.hop, voice.threads), tuple[int, int, int])


def pieces(mel: Array) -> Iterator[Array]:
    yield mel[:, :5]


def stream(voice: engine.Voice, mel: Array, tensor: torch.Tensor) -> None:
    cancel = threading.Event()
    with voice.stream(mel, steps=6, seed=1, chunk=4096, cancel=cancel) as chunks:
        for chunk in chunks:
            assert_type(chunk, Array)
    for chunk in voice.stream(pieces(mel)):
        assert_type(chunk, Array)
    for tensor_chunk in voice.stream([tensor, tensor]):
        assert_type(tensor_chunk, torch.Tensor)
    for number, batch_chunk in voice.stream_batch([pieces(mel), pieces(mel)], seed=[1, 2]):
        assert_type(number, int)
        assert_type(batch_chunk, Array)
    with voice.open_stream(steps=6, streams=2) as opened:
        assert_type(opened.feed(mel), Array)
        assert_type(opened.feed(tensor), torch.Tensor)
        assert_type((opened.frames, opened.samples, opened.bytes), tuple[int, int, int])
        rest: Array | torch.Tensor = opened.finish()
        print(len(rest))
    for last in opened.last_chunks():
        assert_type(last, Array)


def generate(voice: engine.Voice, audio: Array, tensor: torch.Tensor) -> None:
    assert_type(engine.generate(n=4, label=3, seed=1, guidance=2.0, seconds=0.5), Array)
    assert_type(engine.generate(label=["3", 4], n=2, model="digits", samples=4000), Array)
    assert_type(engine.generate(noise=(tensor, tensor)), torch.Tensor)
    assert_type(voice.generate(n=2, steps=6, progress=progress), Array)
    assert_type(voice.generate(steps=None, schedule=[1e-4, 0.05, 0.5]), Array)
    assert_type(voice.generate(noise=(tensor, tensor), steps=6), torch.Tensor)
    assert_type(voice.generate(noise=(audio, audio), steps=6), Array)
    assert_type(voice.classes_of(n=3, label=3, seed=1), list[str])
    assert_type(engine.denoise(audio, t=10), Array)
    assert_type(engine.denoise(tensor, model="digits", label=[3]), torch.Tensor)
    assert_type(voice.denoise(audio, t=25, mel=tensor, seed=1), Array)
    assert_type(engine.interpolate(audio, audio, weight=0.3, t=40), Array)
    assert_type(voice.interpolate(tensor, tensor, label="3"), torch.Tensor)


def mels(audio: Array, tensor: torch.Tensor) -> None:
    assert_type(engine.mel(audio, 22050), Array)
    assert_type(engine.mel(tensor, 22050, kind="hifigan", n_mels=100, fmin=0.0, fmax=12000.0), torch.Tensor)


def files(voice: engine.Voice) -> None:
    audio, rate = engine.audio.read_audio("speech.wav", mix=True)
    assert_type(audio, Array)
    engine.audio.write_wav("copy.wav", engine.audio.resample(audio, rate, voice.sample_rate), voice.sample_rate)
    mel = engine.mel(audio, rate, **engine.audio.mel_settings(voice.config))
    assert_type(mel, Array)
    summary = engine.vocode_files(["mels", Path("a.npy")], "out", workers=2, shard=(1, 3), device=["cuda:0", "cuda:1"])
    assert_type(summary.failures, Mapping[str, str])
    checkpoint = engine.checkpoint.load_checkpoint("a.pt")
    engine.checkpoint.save_checkpoint("a.safetensors", checkpoint)


def errors(voice: engine.Voice) -> None:
    try:
        voice.vocode(np.zeros((80, 4), np.float32))
    except (engine.InputError, engine.CheckpointError, engine.UnavailableError, engine.Cancelled) as error:
        print(error)
