"""Every compiled kernel, instruction by instruction, against the reference in float64, and what notices its faults.

sm_100 is missing here: its tensor cores (tcgen05) are compiled (test_machine_code.py) and not executed.
"""

from dataclasses import replace

import pytest

pytest.importorskip("triton")

from engine.config import BASE
from tests.gpu import checks
from tests.gpu.devices import SimulatedDevice, compile_once
from tests.gpu.machine_code import kernels_of
from tests.gpu.ptx import mutate
from tests.gpu.ptx.errors import PTXError
from tests.support.networks import SMALL, SMALL_UNCONDITIONAL
from tests.support.tolerances import TOLERANCES

pytestmark = pytest.mark.usefixtures("one_torch_thread")

CAPABILITIES = (80, 86, 89, 90, 120)
# Every architecture in the precision that users get, one of either kind of tensor cores in all.
TARGETS = [(c, "fp16") for c in CAPABILITIES] + [(80, "bf16"), (80, "fp32"), (90, "tf32")]
SLOW = [(c, p) for c in CAPABILITIES for p in ("bf16", "tf32", "fp32") if (c, p) not in TARGETS]
WIDE = replace(BASE, residual_layers=10)
LENGTHS = (130, 7)


@pytest.mark.parametrize(
    ("capability", "precision"), TARGETS + [pytest.param(*target, marks=pytest.mark.slow) for target in SLOW]
)
def test_operations(capability, precision):
    device, limit = SimulatedDevice(capability), TOLERANCES[f"operation_{precision}"]
    mel = replace(WIDE, residual_layers=2, upsample_strides=(4, 8))
    assert checks.upsample_mel(device, mel, precision, (4, 1)) < limit
    assert checks.project_conditioner(device, mel, precision, LENGTHS) < limit
    assert checks.input_projection(device, mel, precision, LENGTHS) < limit
    assert checks.fold_steps(device, mel, precision, (4.2,)) < limit
    assert checks.output_head(device, mel, precision, LENGTHS) < limit
    for layer in (0, 3, 9):  # dilations 1, 8, 512
        assert checks.residual_block(device, WIDE, precision, LENGTHS, layer) < limit


@pytest.mark.parametrize("capability", [80, 90])
def test_tf32_is_rounded_and_not_cut_off(capability):
    device, limit = SimulatedDevice(capability), TOLERANCES["rounded_tf32"]
    mel = replace(WIDE, residual_layers=2, upsample_strides=(4, 8))
    assert checks.residual_block(device, WIDE, "tf32", LENGTHS, 3) < limit
    assert checks.output_head(device, mel, "tf32", LENGTHS) < limit
    assert checks.project_conditioner(device, mel, "tf32", LENGTHS) < limit


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_noise_has_the_bits_of_its_definition(capability):
    device = SimulatedDevice(capability)
    net = checks.network(device, replace(SMALL_UNCONDITIONAL, residual_layers=1), "fp16")
    assert checks.initial_noise(device, net, (2**64 - 1, 5), (2**34, 2**62), (300, 1027))


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("channels", [16, 48, 128, 256])
def test_residual_blocks_of_all_widths(capability, channels):
    config = replace(SMALL, residual_channels=channels, residual_layers=3, dilation_cycle=3)
    device = SimulatedDevice(capability)
    assert checks.residual_block(device, config, "fp16", (70, 3), 2) < TOLERANCES["operation_fp16"]


@pytest.mark.parametrize("capability", [80, 90])
def test_variants_of_the_residual_block(capability):
    device = SimulatedDevice(capability)
    for changes in ({"padding": "reflect"}, {"step_bias_in_residual": True}, {"n_mels": 0, "upsample_strides": ()}):
        error = checks.residual_block(device, replace(WIDE, **changes), "fp16", LENGTHS, 2)
        assert error < TOLERANCES["operation_fp16"], changes


def noticed(ptx, name, capability, check):
    """Whether a change of one kernel's PTX is an error, or makes its check red."""
    device = SimulatedDevice(capability)
    device.rewrite = lambda kernel, original: ptx if kernel == name else original
    try:
        return not check(device) < TOLERANCES["operation_fp16"]
    except (PTXError, AssertionError):
        return True


def block(device):
    return checks.residual_block(device, WIDE, "fp16", (130,), 3)


def head(device):
    return checks.output_head(device, WIDE, "fp16", (70,))


# Kernel, its check, kind of fault, architecture, how many are no faults: read in the PTX, they repeat what is there.
# The loop's first wait and barrier repeat the prologue's, the wait behind the loop finds nothing under way, and one
# barrier before the projection's weights and one fence behind them follow another with no shared access between.
FAULTS = [
    ("residual_block", block, mutate.drop_barriers, 80, 2),
    ("residual_block", block, mutate.drop_waits, 80, 2),
    ("residual_block", block, mutate.raise_waits, 80, 2),
    ("residual_block", block, mutate.drop_barriers, 90, 2),
    ("residual_block", block, mutate.drop_matrix_waits, 90, 0),
    ("residual_block", block, mutate.drop_fences, 90, 1),
    ("output_head", head, mutate.drop_barriers, 80, 0),
]
MANY = 5  # of a kind; `make slow` plants all


@pytest.mark.parametrize(
    ("name", "check", "kind", "capability", "spared"), FAULTS, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_planted_faults_are_noticed(request, name, check, kind, capability, spared):
    ptx = compile_once(kernels_of(replace(WIDE, residual_layers=1), "fp16", capability)[name], capability).asm["ptx"]
    assert not noticed(ptx, name, capability, check)
    mutants = list(kind(ptx))
    if request.config.getoption("-m") != "slow":
        mutants = mutants[:: -(-len(mutants) // MANY)]
    missed = [mutant.name for mutant in mutants if not noticed(mutant.ptx, name, capability, check)]
    print(f"{name}, sm_{capability}, {kind.__name__}: {len(mutants) - len(missed)} of {len(mutants)} noticed")
    assert mutants and len(missed) <= spared, missed
