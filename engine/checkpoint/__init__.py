"""Checkpoints of every public implementation, loaded without executing anything in them."""

from engine.checkpoint.load import Checkpoint, expected_shapes, load_checkpoint, save_checkpoint

__all__ = ["Checkpoint", "expected_shapes", "load_checkpoint", "save_checkpoint"]
