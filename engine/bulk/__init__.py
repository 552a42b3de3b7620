"""Many files: inputs to items, items to results in a folder, by processes of this machine or of a cluster."""

from engine.bulk.api import mel_files, vocode_files
from engine.bulk.summary import Summary

__all__ = ["Summary", "mel_files", "vocode_files"]
