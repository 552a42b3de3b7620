"""Turn a mel spectrogram into speech with the bundled voice.

    python examples/vocode.py [mel.npy] [speech.wav]

Without arguments it takes the bundled mel. Yours is float32 [80, T] of the kind "lmnt" (docs/mels.md).
"""

import sys
from pathlib import Path

import engine
from engine.audio import write_wav
from engine.audio.mel_files import read_mel
from engine.checkpoint.bundled import ASSETS


def main(mel_file: str = str(ASSETS / "demo_mel.npy"), wav_file: str = "speech.wav") -> None:
    """Read the mel, vocode it and write the audio."""
    mel = read_mel(Path(mel_file))
    voice = engine.load()
    print(voice.explain())

    audio = voice.vocode(mel, steps=6, seed=0)

    write_wav(wav_file, audio, voice.sample_rate)
    print(f"wrote {wav_file}: {len(audio) / voice.sample_rate:.2f} s at {voice.sample_rate} Hz")


if __name__ == "__main__":
    if len(sys.argv) > 3:
        sys.exit("usage: python examples/vocode.py [MEL.npy] [SPEECH.wav]")
    try:
        main(*sys.argv[1:])
    except (OSError, ValueError, RuntimeError) as error:  # the engine's errors are of these kinds
        sys.exit(f"vocode: {error}")
