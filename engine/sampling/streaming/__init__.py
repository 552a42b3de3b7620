"""Audio while the mel is still being written."""
