"""Validation of arguments: mels, arrays, numbers."""
