"""Setup of the tests that run in a process of their own with TRITON_INTERPRET=1; see test_interpreter.py."""

import os

import pytest
import torch

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["*"]
else:
    torch.set_num_threads(1)


@pytest.fixture
def device():
    from tests.gpu.devices import InterpretedDevice

    return InterpretedDevice()
