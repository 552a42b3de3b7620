"""Every kernel as compiled PTX against the reference in float64, and mutation tests of these checks.

sm_100 is not executed. Its kernels, which use tcgen05, are compiled and disassembled in test_machine_code.py.
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
# Every architecture in the default precision; one architecture of each kind of tensor cores in every precision.
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


@pytest.mark.parametrize("strides", [(15, 20), (11, 25), (21, 21), (3, 5, 7)])
def test_odd_strides(strides):
    config = replace(SMALL, residual_layers=1, dilation_cycle=1, n_mels=20, upsample_strides=strides)
    device, limit = SimulatedDevice(80), TOLERANCES["operation_fp32"]
    assert checks.upsample_mel(device, config, "fp32", (3, 1)) < limit


@pytest.mark.parametrize("channels", [1, 20, 72])
def test_channels_that_are_padded(channels):
    config = replace(SMALL, residual_channels=channels, residual_layers=3, dilation_cycle=3, upsample_strides=(3, 5))
    device, limit = SimulatedDevice(80), TOLERANCES["operation_fp16"]
    assert checks.residual_block(device, config, "fp16", (70, 3), 2) < limit
    assert checks.input_projection(device, config, "fp16", (70, 3)) < limit
    assert checks.output_head(device, config, "fp16", (70, 3)) < limit


@pytest.mark.parametrize("capability", [80, 90])
def test_tf32_is_rounded_not_truncated(capability):
    device, limit = SimulatedDevice(capability), TOLERANCES["rounded_tf32"]
    mel = replace(WIDE, residual_layers=2, upsample_strides=(4, 8))
    assert checks.residual_block(device, WIDE, "tf32", LENGTHS, 3) < limit
    assert checks.output_head(device, mel, "tf32", LENGTHS) < limit
    assert checks.project_conditioner(device, mel, "tf32", LENGTHS) < limit


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_noise_matches_its_definition_bit_for_bit(capability):
    device = SimulatedDevice(capability)
    net = checks.network(device, replace(SMALL_UNCONDITIONAL, residual_layers=1), "fp16")
    assert checks.initial_noise(device, net, (2**64 - 1, 5), (2**34, 2**62), (300, 1027))


@pytest.mark.parametrize(
    ("capability", "channels"),
    [
        *((80, 16), (80, 48), (90, 128), (90, 256)),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((90, 16), (90, 48), (80, 128), (80, 256))),
    ],
)
def test_residual_blocks_of_every_width(capability, channels):
    config = replace(SMALL, residual_channels=channels, residual_layers=3, dilation_cycle=3)
    device = SimulatedDevice(capability)
    assert checks.residual_block(device, config, "fp16", (70, 3), 2) < TOLERANCES["operation_fp16"]


@pytest.mark.parametrize("capability", [80, 90])
def test_variants_of_the_residual_block(capability):
    device = SimulatedDevice(capability)
    for changes in ({"padding": "reflect"}, {"step_bias_in_residual": True}, {"n_mels": 0, "upsample_strides": ()}):
        error = checks.residual_block(device, replace(WIDE, **changes), "fp16", LENGTHS, 2)
        assert error < TOLERANCES["operation_fp16"], changes


def detected(ptx, name, capability, check):
    """Return whether a mutation of one kernel's PTX raises an error or makes its check fail."""
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


# (kernel, its check, kind of mutation, architecture, number of harmless mutations). Harmless mutations drop redundant
# instructions of the PTX. The loop's first wait and barrier repeat the prologue's. The wait after the loop has no
# copies in flight. One barrier before the projection's weights and one fence after them follow another one without a
# shared access between.
FAULTS = [
    ("residual_block", block, mutate.drop_barriers, 80, 2),
    ("residual_block", block, mutate.drop_waits, 80, 2),
    ("residual_block", block, mutate.raise_waits, 80, 2),
    ("residual_block", block, mutate.drop_barriers, 90, 2),
    ("residual_block", block, mutate.drop_matrix_waits, 90, 0),
    ("residual_block", block, mutate.drop_fences, 90, 1),
    ("output_head", head, mutate.drop_barriers, 80, 0),
]
FEW = 3  # mutations per kind; `make slow` runs all


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few", "all"])
@pytest.mark.parametrize(
    ("name", "check", "kind", "capability", "harmless"),
    FAULTS,
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_faults_are_detected(name, check, kind, capability, harmless, every):
    ptx = compile_once(kernels_of(replace(WIDE, residual_layers=1), "fp16", capability)[name], capability).asm["ptx"]
    assert not detected(ptx, name, capability, check)
    mutants = list(kind(ptx))
    mutants = mutants if every else mutants[:: -(-len(mutants) // FEW)]
    missed = [mutant.name for mutant in mutants if not detected(mutant.ptx, name, capability, check)]
    print(f"{name}, sm_{capability}, {kind.__name__}: {len(mutants) - len(missed)} of {len(mutants)} detected")
    assert mutants and len(missed) <= harmless, missed
