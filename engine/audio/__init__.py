"""WAV files, mel spectrograms and audio metrics."""
