"""Re-synthesize a recording with a checkpoint of your own.

    python examples/own_checkpoint.py weights.pt recording.wav copy.wav

The checkpoint comes from any public implementation (docs/checkpoints.md). PyTorch need not be installed.
"""

import sys

import engine
from engine.audio import mel_settings, read_audio, resample, write_wav


def main(checkpoint: str, recording: str, copy: str) -> None:
    """Load the checkpoint, analyze the recording and vocode its mel."""
    voice = engine.load(checkpoint, device="cpu", precision="fp32")
    print(voice.explain())

    audio, rate = read_audio(recording, mix=True)
    audio = resample(audio, rate, voice.sample_rate)  # another rate needs soxr, of the extra "audio"
    mel = engine.mel(audio, voice.sample_rate, **mel_settings(voice.config))

    write_wav(copy, voice.vocode(mel, steps=6, seed=0), voice.sample_rate)
    print(f"wrote {copy}")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python examples/own_checkpoint.py CHECKPOINT RECORDING OUTPUT.wav")
    try:
        main(*sys.argv[1:])
    except (OSError, ValueError, RuntimeError) as error:  # the engine's errors are of these kinds
        sys.exit(f"own_checkpoint: {error}")
