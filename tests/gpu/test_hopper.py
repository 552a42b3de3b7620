"""The CUDA residual block for Hopper: compiled by NVRTC, executed in the PTX interpreter, and disassembled."""

import re
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("triton")
pytest.importorskip("cuda.bindings.nvrtc")

import engine
from engine.config import BASE
from engine.kernels import device as gpu_device
from engine.kernels import registry
from engine.kernels.hopper import build, layout
from tests.gpu import checks
from tests.gpu.devices import SimulatedDevice
from tests.gpu.machine_code import MULTIPROCESSORS, kernels_of, machine_code
from tests.gpu.ptx import mutate
from tests.gpu.ptx.errors import PTXError
from tests.support.networks import SMALL
from tests.support.tolerances import TOLERANCES

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.skipif(build.obstacle() is not None, reason=str(build.obstacle())),
]

WIDE = replace(BASE, residual_layers=10)
LENGTHS = (130, 7)
# With one multiprocessor three warpgroups process all tiles, four each: each of their two buffers is used twice.
LONG = (700,)


class Hopper(SimulatedDevice):
    """A simulated GPU with the instruction set sm_90a."""

    isa = build.ISA

    def __init__(self):
        super().__init__(90)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_block_and_its_conditioner_match_the_reference(precision):
    device, limit = Hopper(), TOLERANCES[f"operation_{precision}"]
    assert checks.project_conditioner(device, replace(WIDE, residual_layers=2), precision, LENGTHS) < limit
    for layer, lengths in ((0, LENGTHS), (3, LENGTHS), (9, LENGTHS), (2, LONG), (7, (300, 1, 129, 64))):
        assert checks.residual_block(device, WIDE, precision, lengths, layer) < limit


def test_variants_match_the_reference():
    device, padded = Hopper(), replace(SMALL, residual_channels=48, residual_layers=3)
    changes = ({"padding": "reflect"}, {"step_bias_in_residual": True}, {"n_mels": 0, "upsample_strides": ()})
    for config in (padded, *(replace(WIDE, **change) for change in changes)):
        assert checks.residual_block(device, config, "fp16", LENGTHS, 2) < TOLERANCES["operation_fp16"], config


def detected(ptx):
    device = Hopper()
    device.rewrite = lambda kernel, original: ptx if kernel == "residual_block" else original
    try:
        return not checks.residual_block(device, WIDE, "fp16", LONG, 3) < TOLERANCES["operation_fp16"]
    except (PTXError, AssertionError):
        return True


FEW = 3  # mutations per kind; `make slow` runs all


# Every thread fences its copies before the loop and at the beginning of every iteration: one fence is redundant.
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few", "all"])
@pytest.mark.parametrize(
    ("kind", "harmless"),
    [(mutate.drop_barriers, 0), (mutate.drop_waits, 0), (mutate.drop_matrix_waits, 0), (mutate.drop_fences, 1)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_faults_are_detected(kind, harmless, every):
    ptx = kernels_of(replace(WIDE, residual_layers=1), "fp16", 90, build.ISA)["residual_block"].compile(90).asm["ptx"]
    assert not detected(ptx)
    mutants = list(kind(ptx))
    mutants = mutants if every else mutants[:: -(-len(mutants) // FEW)]
    missed = [mutant.name for mutant in mutants if not detected(mutant.ptx)]
    print(f"{kind.__name__}: {len(mutants) - len(missed)} of {len(mutants)} detected")
    assert mutants and len(missed) <= harmless, missed


@pytest.mark.parametrize("isa", [None, build.ISA])
def test_the_output_of_the_kernel_before_is_read_after_the_wait(isa):
    """Both blocks launch while the kernel before them ends, which an interpreter of single kernels does not model."""
    kernel = kernels_of(replace(WIDE, residual_layers=1), "fp16", 90, isa)["residual_block"]
    before, after = kernel.compile(90).asm["ptx"].split("griddepcontrol.wait")
    assert "griddepcontrol.launch_dependents" in before
    assert "ld.global" in after and not re.search(r"(ld|st)\.global", before)
    assert len(re.findall(r"cp\.async\.c", before)) == (isa == build.ISA)  # the weights


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("reflect", [False, True])
def test_machine_code(bf16, reflect):
    kernel = build.residual_block(True, reflect, bf16)
    code = machine_code(kernel, 90)
    assert (code.stack, code.local) == (0, 0) and not code.count("LDL|STL"), code
    assert code.count("HGMMA") == 3 * 4 + 4  # taps and the projection, 16 channels at a time
    assert code.count("MUFU.TANH") == 64
    assert code.count(r"LDGSTS\S*\.128") and code.count(r"LDG\S*\.128") and code.count(r"STG\S*\.128")
    assert not code.count(r"(LDG|STG)\S*\.[US](8|16)"), code.opcodes
    # A fence for all memory, instead of shared memory, waits for every store and makes a tile five times slower.
    assert not code.count(r"MEMBAR\S*\.(GPU|SYS)"), code.opcodes
    assert MULTIPROCESSORS[90].programs(code) == 1


def test_column_orders_are_permutations():
    for columns, count in (
        (layout.gate_columns(), 128),
        (layout.conditioner_columns(), 128),
        (layout.out_columns(), 64),
    ):
        assert sorted(columns) == list(range(count))
    assert (layout.gate_columns() % 2 == np.arange(128) % 2).all()  # gate and filter stay adjacent


def test_unsupported_networks_raise_an_error():
    for channels, precision in ((128, "fp16"), (64, "tf32")):
        with pytest.raises(
            engine.UnavailableError, match="isa: 'sm_90a' supports 64 channels in fp16 and bf16, this network has"
        ):
            kernels_of(replace(SMALL, residual_channels=channels), precision, 90, build.ISA)
    with pytest.raises(ValueError, match="expected compute capability 90, got 100"):
        build.residual_block(True, False, False).compile(100)


def test_a_compile_error_reports_the_log():
    broken = build.CudaKernel("residual_block", (("u32", 0),), 384, 1024)
    with pytest.raises(RuntimeError, match=r"residual_block\.cu: .*error"):
        broken.compile(90)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [("sm_80", "needs compute capability 9.0, this GPU is sm_80"), ("sm_90", None)],
)
def test_it_is_selected_by_its_name(monkeypatch, architecture, message):
    monkeypatch.setattr(gpu_device, "obstacle", lambda index: None)
    monkeypatch.setattr(gpu_device, "describe", lambda index: "a GPU")
    monkeypatch.setattr(gpu_device, "isa", lambda index: architecture)
    if message:
        with pytest.raises(engine.UnavailableError, match=f"isa: 'sm_90a' {message}"):
            registry.select("cuda", isa=build.ISA)
        return
    choice = registry.select("cuda", isa=build.ISA)
    assert choice == replace(registry.select(isa=build.ISA), reasons=choice.reasons)
    assert choice.isa == build.ISA and "residual blocks in CUDA" in " ".join(choice.reasons)
    monkeypatch.setattr(build, "obstacle", lambda: "NVRTC cannot be used (gone): pip install it")
    with pytest.raises(engine.UnavailableError, match="needs NVRTC: NVRTC cannot be used"):
        registry.select("cuda", isa=build.ISA)
