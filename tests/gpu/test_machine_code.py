"""Machine code for every architecture: no spilled registers, tensor cores, wide loads, the planned occupancy.

A kernel that fails one of these checks is several times slower, which no other test detects.
"""

from dataclasses import replace

import pytest

pytest.importorskip("triton")

from engine.config import BASE
from engine.kernels.triton.table import CAPABILITIES, PRECISIONS
from tests.gpu.machine_code import MULTIPROCESSORS, TENSOR_CORES, MachineCode, Multiprocessor, kernels_of, machine_code
from tests.support.networks import SMALL

SIZES = {channels: replace(BASE, residual_channels=channels, residual_layers=1) for channels in (16, 32, 64, 128, 256)}
MULTIPLYING = ("residual_block", "output_head", "project_conditioner")
# Warps of residual blocks on a multiprocessor by channels, which hide latencies.
PLANNED = {16: 24, 32: 16, 64: 12, 128: 12, 256: 12}
# fp32 and tf32 rows take twice the shared memory. Desktop architectures have less than half the shared memory.
SMALL_MEMORY = {"fp16": {256: 8}, "bf16": {256: 8}, "tf32": {32: 12, 64: 8, 128: 8, 256: 4}, "fp32": {256: 8}}
LARGE_MEMORY = {"tf32": {32: 12, 64: 8, 128: 8, 256: 8}}
HOPPER = {128: 8, 256: 8}  # in 16 bits: the fastest of a dozen tiles on an H100
# ptxas for compute capability 10.0 keeps a value on the stack around the noise's rare call of a square root.
AROUND_CALLS = {"output_head": 1}

# The common case on every architecture, the others on one architecture of each kind; `make slow` runs all.
QUICK = {(c, 64, "fp16") for c in CAPABILITIES} | {(c, 128, "fp16") for c in (80, 90)}
QUICK |= {(c, 64, precision) for c in (80, 90) for precision in PRECISIONS}
QUICK |= {(80, 256, "fp16"), (90, 256, "fp16"), (80, 16, "fp16")}
ALL = [(capability, channels, p) for capability in CAPABILITIES for channels in SIZES for p in PRECISIONS]
CASES = [pytest.param(*case, marks=[pytest.mark.slow] * (case not in QUICK)) for case in ALL]


def planned(capability, channels, precision):
    small = MULTIPROCESSORS[capability].shared_kb <= 100
    warps = (SMALL_MEMORY if small else LARGE_MEMORY).get(precision, {})
    if capability == 90 and PRECISIONS[precision].storage != "fp32":
        warps = HOPPER
    return warps.get(channels, PLANNED[channels])


@pytest.mark.parametrize(("capability", "channels", "precision"), CASES)
def test_machine_code(capability, channels, precision):
    kernels = kernels_of(SIZES[channels], precision, capability)
    assert {*MULTIPLYING, "input_projection", "upsample_mel", "initial_noise", "linear", "fold_step"} == set(kernels)
    for name, kernel in kernels.items():
        code = machine_code(kernel, capability)
        check_no_spills(code, AROUND_CALLS.get(name, 0))
        if name in MULTIPLYING and PRECISIONS[precision].product != "ieee":
            assert any(map(TENSOR_CORES.match, code.opcodes)), f"{name} uses no tensor cores: {code.opcodes}"
        if name in MULTIPLYING:
            assert code.count(r"(LDG|LDGSTS|STG)\S*\.128"), f"{name} has no 16-byte access: {code.opcodes}"
            assert not code.count(r"LDG\S*\.[US](8|16)"), f"{name} loads single values: {code.opcodes}"
    code = machine_code(kernels["residual_block"], capability)
    assert MULTIPROCESSORS[capability].programs(code) * code.warps >= planned(capability, channels, precision)


def check_no_spills(code, kept=0):
    """Check that at most `kept` values of a thread are on the stack, each stored and loaded once."""
    assert code.stack <= 8 * kept and code.local == 0 and code.count("LDL|STL") <= 2 * kept, code


def test_the_gate_takes_two_special_functions():
    """64 rows of 64 channels over 128 threads are 32 values per thread."""
    code = machine_code(kernels_of(SIZES[64], "fp16", 80)["residual_block"], 80)
    assert code.count("MUFU.TANH") == 64 and code.count("MUFU") == 64


def test_noise_is_not_fused():
    """Fused multiply-add would change the bits; see engine/diffusion/noise.py."""
    kernels = kernels_of(replace(SMALL, residual_layers=1), "fp16", 80)
    code = machine_code(kernels["initial_noise"], 80)
    # The refinement of the square root uses fused operations and is exact nevertheless.
    assert code.count("FMUL") > 20 and code.count("FADD") > 20 and code.count("FFMA") < 40


def test_spills_are_detected():
    """A tile of 256 rows needs more registers than there are."""
    kernel = kernels_of(SIZES[64], "fp16", 80)["residual_block"]
    large = dict(kernel.constants) | {"ROWS": 256}
    with pytest.raises(AssertionError):
        check_no_spills(machine_code(replace(kernel, constants=tuple(large.items())), 80))


def test_occupancy_of_a_multiprocessor():
    ampere = Multiprocessor(164, 2048)
    assert ampere.programs(MachineCode(168, 0, 0, 0, 4, None)) == 3  # 65536 / (168 * 128)
    assert ampere.programs(MachineCode(32, 0, 0, 0, 4, None)) == 16  # 2048 threads
    assert ampere.programs(MachineCode(32, 0, 0, 50 * 1024, 4, None)) == 3  # 164 / 51
