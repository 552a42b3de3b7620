"""Audio files, mel spectrograms and audio metrics."""

from engine.audio.mel_conversion import convert_mel
from engine.audio.mel_stream import stream_mel
from engine.audio.metrics import RealTime, snr
from engine.audio.spectrogram import MelSettings, mel, mel_settings
from engine.audio.wav import read_audio, read_wav, resample, write_wav

__all__ = [
    "MelSettings",
    "RealTime",
    "convert_mel",
    "mel",
    "mel_settings",
    "read_audio",
    "read_wav",
    "resample",
    "snr",
    "stream_mel",
    "write_wav",
]
