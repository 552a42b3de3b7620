"""Assertions about loading checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.checkpoint.load import Checkpoint, load_checkpoint
from engine.config import Config
from engine.errors import CheckpointError


def assert_refused(path: Path, match: str, **arguments: Any) -> None:
    """Check that loading a file raises CheckpointError with one short line that names the file's folder."""
    with pytest.raises(CheckpointError, match=match) as refusal:
        load_checkpoint(path, **arguments)
    assert_short_message(refusal.value, path)


def assert_short_message(error: Exception, path: Path) -> None:
    """Check that a message is one short line that names the file's folder."""
    message = str(error)
    assert str(path.parent) in message and len(message) < 400 + len(str(path)) and "\n" not in message


def assert_network(checkpoint: Checkpoint, config: Config, tensors: Any) -> None:
    """Check that a checkpoint has exactly this configuration and these tensors."""
    assert checkpoint.config == config
    assert set(checkpoint.tensors) == set(tensors)
    for name, tensor in checkpoint.tensors.items():
        np.testing.assert_array_equal(tensor, tensors[name])
