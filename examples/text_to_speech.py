"""Speak a text: espeak-ng reads it aloud, and the voice repeats what it hears, sentence by sentence.

    python examples/text_to_speech.py "Guten Tag. Wie geht es Ihnen?" - | aplay -f S16_LE -r 22050

It needs `pip install espeakng-loader`. espeak-ng stands for an acoustic model (docs/front-ends.md).
"""

import ctypes
import re
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

import engine
from engine.audio import mel_settings, stream_mel
from engine.audio.pcm import writing_pcm, writing_wav
from engine.checks.arrays import FloatArray


def read_aloud(text: str, language: str) -> Iterator[FloatArray]:
    """Yield the audio of every sentence at 22,050 Hz."""
    try:
        import espeakng_loader
    except ImportError:
        raise RuntimeError("espeak-ng is missing; pip install espeakng-loader") from None
    espeak, blocks = espeakng_loader.load_library(), [np.zeros(0, np.float32)]

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)  # type: ignore[untyped-decorator]
    def collect(samples: Any, count: int, _: Any) -> int:
        blocks.append(np.array(samples[:count] if samples else [], np.float32))
        return 0

    path = espeakng_loader.get_data_path().encode()
    if espeak is None or espeak.espeak_Initialize(2, 0, path, 0) < 0:  # 2: return the samples
        raise RuntimeError("espeak-ng does not start; reinstall espeakng-loader")
    espeak.espeak_SetSynthCallback(collect)
    if espeak.espeak_SetVoiceByName(f"{language}+f2".encode()):
        raise RuntimeError(f"espeak-ng has no language {language!r}")
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        espeak.espeak_Synth(sentence.encode(), 0, 0, 1, 0, 1, None, None)  # 1: UTF-8
        yield np.concatenate(blocks) / np.float32(40000)
        del blocks[1:]
    espeak.espeak_Terminate()


def main(text: str = "Guten Tag. Wie geht es?", output: str = "speech.wav", language: str = "de") -> None:
    """Speak a text into a WAV file, or as samples to stdout."""
    if not any(map(str.isalnum, text)):
        raise ValueError(f"TEXT: expected words, got {text!r}")
    voice = engine.load(device="cpu")
    mels = stream_mel(read_aloud(text, language), voice.sample_rate, **mel_settings(voice.config))
    with writing_pcm(sys.stdout.buffer) if output == "-" else writing_wav(output, voice.sample_rate) as write:
        for chunk in voice.stream(mels):
            write(chunk)


if __name__ == "__main__":
    if len(sys.argv) > 4:
        sys.exit("usage: python examples/text_to_speech.py [TEXT] [SPEECH.wav or -] [LANGUAGE]")
    try:
        main(*sys.argv[1:])
    except (OSError, ValueError, RuntimeError) as error:  # the engine's errors are of these kinds
        sys.exit(f"text_to_speech: {error}")
