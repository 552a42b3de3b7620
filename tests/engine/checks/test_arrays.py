from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from engine.checks.arrays import device_of, dtype_name, is_torch, on_device, stack, to_numpy
from engine.errors import InputError

MODULES = "engine.checks.arrays, engine.audio.spectrogram, engine.checks.mels, engine.audio.wav, engine.audio.metrics"


def test_nothing_here_imports_torch() -> None:
    code = f"import sys, {MODULES}\nassert not engine.checks.arrays.is_torch(0)\nassert 'torch' not in sys.modules"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_what_is_a_tensor() -> None:
    assert is_torch(torch.zeros(1)) and is_torch(torch.nn.Parameter(torch.zeros(1)))
    assert not is_torch(np.zeros(1)) and not is_torch([torch.zeros(1)]) and not is_torch(torch)


def test_names_of_element_types() -> None:
    assert dtype_name(np.zeros(1, np.float32)) == dtype_name(torch.zeros(1)) == "float32"
    assert dtype_name(torch.zeros(1, dtype=torch.bfloat16)) == "bfloat16"
    assert dtype_name(np.zeros(1, ">f4")) == ">f4"  # byte-swapped is not float32


def test_memory_is_shared_both_ways() -> None:
    array, tensor = np.zeros(4, np.float32), torch.zeros(4)
    assert to_numpy(array, "x", ("float32",)) is array
    to_numpy(tensor.requires_grad_(), "x", ("float32",))[2] = 5
    assert tensor[2] == 5
    assert on_device(array, None) is array
    assert on_device(array, torch.device("cpu")).data_ptr() == array.ctypes.data
    assert device_of(array) is None and device_of(tensor) == torch.device("cpu")


def test_tensors_without_plain_memory_are_refused() -> None:
    for tensor in (torch.zeros(2, 2).to_sparse(), torch.zeros(2, 2, device="meta")):
        with pytest.raises(InputError, match="x: expected a dense tensor"):
            to_numpy(tensor, "x", ("float32",))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_there_and_back() -> None:
    tensor = torch.ones(4, device="cuda")
    array = to_numpy(tensor, "x", ("float32",))
    back = on_device(array, device_of(tensor))
    assert back.device == tensor.device and bool((back == tensor).all())


def test_rows_of_one_array_are_not_copied() -> None:
    whole = np.array(np.arange(12).reshape(3, 4), np.float32)
    rows = list(whole)
    assert stack(rows) is whole
    for others in (rows[::-1], rows[:2], [rows[0], rows[0], rows[2]], [row.copy() for row in rows], list(whole[:, :3])):
        copied = stack(others)
        assert copied is not whole
        np.testing.assert_array_equal(copied, np.stack(others))
