"""Checkpoints of every public implementation, read without running anything in them."""
