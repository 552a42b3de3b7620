"""Piper's HTTP server as a baseline of the service: what a server that answers with the whole file does under load.

Piper (OHF-Voice/piper1-gpl, `piper-tts` on PyPI) goes from text to speech with one VITS network in ONNX Runtime. Its
voices are not on PyPI. `write_voice` writes one of Piper's medium size with random weights. Its output is noise, and it
takes the time of any voice of this size.

Needs `pip install piper-tts flask onnx` beside PyTorch.
"""

from __future__ import annotations

import io
import json
import math
import socket
import subprocess
import sys
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx

SAMPLE_RATE, HOP, SYMBOLS = 22050, 256, 256
FRAMES = 2  # of every symbol, blanks between the phonemes included; the sentence then takes 3.6 s
SENTENCE = "The north wind and the sun were disputing which was the stronger of the two."
_START = 60.0  # seconds


def write_voice(path: Path) -> None:
    """Write a voice of Piper's medium size with random weights: an ONNX file, and its settings beside it.

    The network is Piper's own code with the defaults of its trainer. The predicted durations are replaced by FRAMES per
    symbol, after they were computed.
    """
    import torch

    sys.modules.setdefault("piper.train.vits.monotonic_align", ModuleType("monotonic_align"))  # compiled, for training
    sys.modules["piper.train.vits.monotonic_align"].maximum_path = None  # type: ignore[attr-defined]
    from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP
    from piper.train.vits.models import SynthesizerTrn

    torch.manual_seed(0)
    network = SynthesizerTrn(
        n_vocab=SYMBOLS,
        spec_channels=513,
        segment_size=8192 // HOP,
        inter_channels=192,
        hidden_channels=192,
        filter_channels=768,
        n_heads=2,
        n_layers=6,
        kernel_size=3,
        p_dropout=0.1,
        resblock="2",
        resblock_kernel_sizes=(3, 5, 7),
        resblock_dilation_sizes=((1, 2), (2, 6), (3, 12)),
        upsample_rates=(8, 8, 4),
        upsample_initial_channel=256,
        upsample_kernel_sizes=(16, 16, 8),
    ).eval()
    network.dec.remove_weight_norm()
    predict = network.dp.forward
    network.dp.forward = lambda *args, **options: 0.0 * predict(*args, **options) + math.log(FRAMES - 0.5)

    def infer(text: Any, lengths: Any, scales: Any) -> Any:
        noise, length, width = scales[0], scales[1], scales[2]
        audio = network.infer(text, lengths, noise_scale=noise, length_scale=length, noise_scale_w=width)
        return audio[0].unsqueeze(1)

    network.forward = infer
    example = (torch.randint(0, SYMBOLS, (1, 50)), torch.tensor([50]), torch.tensor([0.667, 1.0, 0.8]))
    names = {"input_names": ["input", "input_lengths", "scales"], "output_names": ["output"]}
    axes = {"input": {0: "batch", 1: "phonemes"}, "input_lengths": {0: "batch"}, "output": {0: "batch", 2: "time"}}
    torch.onnx.export(network, example, str(path), opset_version=15, dynamic_axes=axes, dynamo=False, **names)
    settings = {
        "audio": {"sample_rate": SAMPLE_RATE},
        "espeak": {"voice": "en-us"},
        "phoneme_type": "espeak",
        "num_symbols": SYMBOLS,
        "num_speakers": 1,
        "inference": {"noise_scale": 0.667, "length_scale": 1.0, "noise_w": 0.8},
        "phoneme_id_map": {phoneme: list(ids) for phoneme, ids in DEFAULT_PHONEME_ID_MAP.items()},
        "hop_length": HOP,
    }
    path.with_name(path.name + ".json").write_text(json.dumps(settings))


@contextmanager
def server(voice: Path) -> Iterator[str]:
    """Run `piper.http_server` on loopback for the block, and yield its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = [sys.executable, "-m", "piper.http_server", "-m", str(voice), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=voice.parent) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            end = time.monotonic() + _START
            while True:
                try:
                    httpx.get(f"{url}/info")
                    break
                except httpx.TransportError:
                    if process.poll() is not None or time.monotonic() > end:
                        raise SystemExit("piper.http_server did not start") from None
                    time.sleep(0.2)
            yield url
        finally:
            process.kill()


def seconds_of(answer: bytes) -> float:
    """Return the seconds of audio in a WAV file."""
    with wave.open(io.BytesIO(answer)) as file:
        return file.getnframes() / file.getframerate()
