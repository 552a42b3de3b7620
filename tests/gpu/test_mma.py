"""Residual layers in groups by mma.sync (kernels/ampere): compiled, executed in the PTX interpreter, disassembled."""

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest

pytest.importorskip("triton")
pytest.importorskip("cuda.bindings.nvrtc")

import engine
from engine.config import BASE
from engine.kernels import device as gpu_device
from engine.kernels import registry
from engine.kernels.ampere import layout, stack
from engine.kernels.cuda import build
from engine.kernels.cuda.groups import groups
from engine.kernels.gpu import GpuNetwork
from tests.gpu import checks
from tests.gpu.devices import SimulatedDevice, compile_once, program_of
from tests.gpu.layer_groups import (
    ALL,
    FIRST,
    LABEL_FAULTS,
    PARTS,
    SECOND,
    SEVEN,
    SHORT,
    TEN,
    THREE,
    UNCONDITIONAL,
    detected,
    guidance_is_right,
    labels_are_right,
    noise_is_right,
)
from tests.gpu.machine_code import MULTIPROCESSORS, kernels_of, machine_code
from tests.gpu.ptx import mutate
from tests.gpu.ptx.counters import Counters
from tests.support.networks import SMALL
from tests.support.targets import weights
from tests.support.tolerances import TOLERANCES

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.skipif(build.obstacle() is not None, reason=str(build.obstacle())),
]

CAPABILITIES = (80, 86, 89, 120)


class Mma(SimulatedDevice):
    """A simulated GPU that runs layers in groups by mma.sync."""

    isa = stack.ISA


@pytest.fixture
def warps(monkeypatch):
    """Return a function that leaves one size of tiles to choose from."""
    return lambda count: monkeypatch.setattr(stack, "WARPS", (count,))


def case(config, groups, count, lengths, precision="fp16", capability=80, slow=False):
    return pytest.param(config, groups, count, lengths, precision, capability, marks=[pytest.mark.slow] * slow)


CASES = [
    case(TEN, FIRST, 2, (70, 7, 1)),
    case(TEN, FIRST, 2, (40, 7), "bf16", 120),
    case(TEN, FIRST, 8, (300,)),
    case(SEVEN, SECOND, 2, (111, 17)),
    case(SHORT, ALL, 2, (40, 2)),
    case(replace(TEN, **UNCONDITIONAL), FIRST, 2, (40, 7)),
    case(replace(SMALL, residual_channels=48, residual_layers=3, step_bias_in_residual=True), ALL, 2, (40, 3)),
    case(SEVEN, ALL, 2, (111,), slow=True),
    case(SEVEN, SECOND, 4, (2000, 3), slow=True),
    case(TEN, ALL, 2, (300,), "bf16", slow=True),
    case(TEN, ALL, 4, (600, 5, 133), slow=True),
    *(case(TEN, FIRST, 4, (300, 9), p, c, slow=True) for p in ("fp16", "bf16") for c in (*CAPABILITIES, 90)),
    *(case(replace(TEN, n_mels=bands), FIRST, 2, (90,), slow=True) for bands in (1, 32, 48, 100, 128)),
]


@pytest.mark.parametrize(("config", "groups", "count", "lengths", "precision", "capability"), CASES)
def test_layers_match_the_reference(warps, config, groups, count, lengths, precision, capability):
    warps(count)
    error = checks.residual_stack(Mma(capability), config, precision, lengths, groups)
    print(f"{lengths} samples, {32 * count} a tile, {precision} on sm_{capability}: {error:.1e}")
    assert error < TOLERANCES[f"operation_{precision}"]


STEPS = [
    ((40, 7), THREE, "fp16", {}),  # one group: Triton's input projection
    ((70, 7), SHORT, "fp16", {}),
    ((40, 7), SHORT, "bf16", {"read_noise": True}),
    ((40, 1), replace(SHORT, **UNCONDITIONAL), "fp16", {"sigma": 0.0}),
    pytest.param((40, 7), replace(SHORT, prior=True), "fp16", {}, marks=pytest.mark.slow),
    pytest.param((300, 17), SEVEN, "fp16", {}, marks=pytest.mark.slow),
    pytest.param((300,), TEN, "bf16", {}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("lengths", "config", "precision", "options"), STEPS)
def test_a_whole_step_matches_the_reference(warps, lengths, config, precision, options):
    warps(2)
    device = Mma()
    error = checks.step_in_groups(device, config, precision, lengths, **options)
    print(f"{lengths} samples, {precision}: {error:.1e}, {device.launched}")
    assert error < TOLERANCES[f"operation_{precision}"]


def launch_of_the_first_group(device, config=TEN, length=100):
    """Return the launch of the first group on random rows, and the buffers that it writes."""
    net = GpuNetwork(config, weights(config), device, "fp16", stack.ISA)
    buffers = checks.allocate(device, net, (length,))
    for tensor in (buffers.h[0], buffers.skip, buffers.stages[-1]):
        checks.fill_rows(device, tensor, (length,))
    device.fill(buffers.biases[0], checks.random(*buffers.biases[0].shape))
    return net.residual_stack(buffers, 0, 0), (buffers.h[1], buffers.skip)


def test_bytes_do_not_depend_on_the_size_of_tiles(warps):
    written = set()
    for count in (2, 4, 8):
        warps(count)
        device = Mma(checks=False)
        launch, outputs = launch_of_the_first_group(device)
        device.bind(launch)()
        written.add(tuple(tensor[0, :100].numpy().tobytes() for tensor in outputs))
    assert len(written) == 1


def test_the_noise_is_that_of_its_definition_bit_for_bit(warps):
    warps(2)
    assert noise_is_right(Mma(checks=False))


def test_labels_match_the_reference(warps):
    warps(2)
    assert labels_are_right(Mma())


def test_guidance_matches_its_formula(warps):
    warps(2)
    assert guidance_is_right(Mma(checks=False))


@pytest.mark.parametrize("plant", LABEL_FAULTS, ids=lambda plant: plant.__name__)
def test_wrong_labels_are_detected(warps, monkeypatch, plant):
    warps(2)
    plant(monkeypatch)
    assert not labels_are_right(Mma(checks=False)) and not guidance_is_right(Mma(checks=False))


@pytest.mark.parametrize("count", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_shared_memory_has_no_bank_conflicts(warps, count):
    """128 bytes pass in every wavefront."""
    warps(count)
    device, counters = Mma(checks=False), Counters()
    launch, _ = launch_of_the_first_group(device, THREE, 60)
    compiled = compile_once(launch.kernel, 80)
    device.machine.launch(
        program_of(compiled.asm["ptx"]),
        launch.grid,
        launch.kernel.threads,
        launch.arguments,
        shared_bytes=launch.kernel.shared,
        checks=False,
        counters=counters,
    )
    assert set(counters.shared_memory) == {"ldmatrix", "load", "store"}
    for access, traffic in counters.shared_memory.items():
        assert traffic.units == traffic.bytes / 128, access


@pytest.mark.parametrize(
    ("head", "every"),
    [(True, False), *(pytest.param(head, True, marks=pytest.mark.slow) for head in (True, False))],
)
@pytest.mark.parametrize("kind", [mutate.drop_barriers, mutate.drop_waits], ids=lambda kind: kind.__name__)
def test_missing_barriers_and_waits_are_detected(warps, kind, head, every):
    warps(2)
    ptx = stack.kernel(3, 2, 80, False, ("HEAD",) * head).compile(80).asm["ptx"]
    mutants = list(kind(ptx))
    assert len(mutants) == 8 + head  # one for each piece of the weights
    mutants = mutants if every else mutants[len(mutants) // 2 :][:1]  # `make slow` runs all
    missed = [mutant.name for mutant in mutants if not detected(Mma(), mutant.ptx, ptx, head, 60)]
    print(f"{kind.__name__}: {len(mutants) - len(missed)} of {len(mutants)} detected, not {missed}")
    assert not missed


@dataclass(frozen=True)
class Changed(build.CudaKernel):
    """A kernel of other source code."""

    text: str = ""

    def source(self):
        return self.text


FAULTS = {
    "tap": ("(k / 4 - 1) * dilation", "(1 - k / 4) * dilation"),
    "halo": ("HALO = (1 << LAYERS) - 1", "HALO = (1 << LAYERS) - 2"),
    "slot": ("after % 2,", "piece % 2,"),
    "plane": ("to = plane * PLANE", "to = plane * (PLANE - 32)"),
    "mel plane": ("mels + plane * MEL_PLANE", "mels + plane * (MEL_PLANE - 16)"),
    "past": ("j < dilation", "j <= dilation"),
    "future": ("j >= count - dilation", "j > count - dilation"),
    "outside": ("edge && (j < 0 || j >= count)", "false"),
    "skip": ("if (accumulate &&", "if (!accumulate &&"),
    "half": ("pairs[4 * n].y;", "pairs[4 * n].x;"),
    "end": ("first + row < count; };", "first + row <= count; };"),
}
QUICK_FAULTS = ("tap", "slot", "outside")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK_FAULTS)) for name in FAULTS]
)
def test_faults_of_the_source_are_detected(warps, name):
    warps(2)
    right = stack.kernel(3, 2, 80, False)
    before, after = FAULTS[name]
    assert right.source().count(before) == 1
    attributes = {field.name: getattr(right, field.name) for field in fields(right)}
    wrong = Changed(**attributes, text=right.source().replace(before, after))
    assert detected(Mma(), wrong.compile(80).asm["ptx"], right.compile(80).asm["ptx"], False, 60)


QUICK = [(80, 4, 80, "neither", False), (86, 3, 80, "HEAD", False), (120, 4, 80, "ENTRY", True)]
SLOW = [(c, n, 80, part, bf16) for c in CAPABILITIES for n in (3, 4) for part in PARTS for bf16 in (False, True)]
SLOW += [(c, n, bands, "HEAD", False) for c in (80, 120) for n in (1, 2) for bands in (0, 80)]


@pytest.mark.parametrize(
    ("capability", "layers", "bands", "part", "bf16"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW if case not in QUICK)],
)
def test_machine_code(capability, layers, bands, part, bf16):
    kernel = stack.kernel(layers, 8, bands, bf16, PARTS[part])
    code = machine_code(kernel, capability)  # compiling raises an error for spills
    assert (code.stack, code.local) == (0, 0) and not code.count("LDL|STL"), code
    head, steps = 4 * ("HEAD" in part), 2 * (12 + bands // 16)
    assert code.count("HMMA") == 16 * (steps + 8 + head)
    assert code.count(r"LDSM\S*\.4") == 6 * steps + 4 * (8 + head)
    assert code.count("MUFU.TANH") == 128  # 32 samples of 64 channels over 32 lanes, twice
    assert code.count(r"LDGSTS\S*\.128") and bool(code.count(r"STG\S*\.128")) == (not head)
    assert not code.count(r"(LDG|STG)\S*\.[US](8|16)"), code.opcodes
    assert MULTIPROCESSORS[capability].programs(code) == 1


def test_code_that_spills_is_refused():
    """512 threads may have 128 registers each."""
    with pytest.raises(engine.UnavailableError, match=r"isa: NVRTC \S+ compiles 'sm_80' with \d+ bytes of local mem"):
        stack.kernel(3, 16, 0, False).compile(80)


@pytest.mark.parametrize("capability", [87, 90, 121])
@pytest.mark.slow
def test_other_gpus_are_compiled_for(capability):
    code = machine_code(stack.kernel(4, 8, 80, False), capability)
    assert (code.stack, code.local) == (0, 0) and code.count("HMMA") == 16 * (34 + 8)


@pytest.mark.slow
def test_a_gpu_for_which_the_compiler_spills_is_refused_when_a_network_is_loaded():
    """NVRTC 13.5 needs more registers for 10.0. Another version that does not may run the kernel there."""
    why = stack.STACK.obstacle(TEN, "fp16", 100)
    assert why is None or "compiles 'sm_100' with" in why


def test_tiles_fit_into_shared_memory_and_fill_the_multiprocessors():
    device, first = Mma(86), groups(TEN.dilations)[0]
    assert stack.shared_bytes(8, 80) == 100768 <= 99 * 1024
    assert (stack.widths(80, 86), stack.widths(128, 86), stack.widths(128, 80)) == ((4, 8), (4,), (4, 8))
    assert stack.widths(80, 999) == stack.widths(80, 86)  # an unknown GPU
    for multiprocessors, capacity, count in ((108, 22050, 8), (108, 110250, 8), (108, 8000, 4), (1, 90, 4)):
        device.multiprocessors = multiprocessors
        assert stack.best_width(first, 80, 1, capacity, device) == count, (multiprocessors, capacity)
    assert stack.grid(first, 8, 2, 1000) == (5, 1, 2)


def test_orders_of_channels_are_permutations():
    for order in (layout.gated_channels(), layout.projected_channels()):
        assert sorted(order) == list(range(64))
    lane = layout.projected_channels().reshape(2, 4, 4, 2)[:, :, 3]  # half, block, t, column
    np.testing.assert_array_equal(lane.reshape(2, 8), [range(24, 32), range(56, 64)])


UNSUPPORTED = [
    ({"residual_channels": 128}, "fp16", "up to 64 channels in fp16 and bf16, this network has 128 in fp16"),
    ({}, "fp32", "up to 64 channels in fp16 and bf16, this network has 64 in fp32"),
    ({"padding": "reflect"}, "fp16", "zero padding, this network has padding='reflect'"),
    ({"n_mels": 256}, "fp16", "mels that fit into shared memory, this network has 256 bands"),
]


@pytest.mark.parametrize(("changes", "precision", "message"), UNSUPPORTED)
def test_unsupported_networks_raise_an_error(changes, precision, message):
    config = replace(BASE, residual_layers=1, **changes)
    with pytest.raises(engine.UnavailableError, match=f"isa: 'mma' supports {message}; leave isa out"):
        kernels_of(config, precision, 86, stack.ISA)


def test_pairs_are_refused():
    with pytest.raises(engine.UnavailableError, match=r"pairs: expected False; .* on Hopper"):
        stack.STACK.variant(groups(TEN.dilations)[0], 80, (1, 1024), Mma(), False, (), pairs=True)


def test_it_is_selected_by_its_name(monkeypatch):
    monkeypatch.setattr(gpu_device, "obstacle", lambda index: None)
    monkeypatch.setattr(gpu_device, "describe", lambda index: "a GPU")
    monkeypatch.setattr(gpu_device, "isa", lambda index: "sm_86")
    choice = registry.select("cuda", isa=stack.ISA)
    assert choice == replace(registry.select(isa=stack.ISA), reasons=choice.reasons)
    assert "isa mma: requested; residual layers in groups, in CUDA" in choice.reasons
    assert registry.settle(choice, THREE) == choice
    assert registry.settle(registry.select("cuda"), THREE).isa == "sm_86"  # measured on no GPU: Triton is the default
    with pytest.raises(engine.UnavailableError, match=r"isa: 'mma' supports zero padding, .*; leave isa out"):
        registry.settle(choice, replace(THREE, padding="reflect"))
    monkeypatch.setattr(gpu_device, "isa", lambda index: "sm_999")
    with pytest.raises(engine.UnavailableError, match=r"isa: .*architecture"):
        registry.settle(choice, THREE)
    with pytest.raises(engine.UnavailableError, match=r"isa: 'mma' needs an NVRTC that compiles for sm_999, .* leave"):
        registry.select("cuda", isa=stack.ISA)
    monkeypatch.setattr(build, "obstacle", lambda: "NVRTC cannot be used (gone): pip install it")
    with pytest.raises(engine.UnavailableError, match="isa: 'mma' needs NVRTC: NVRTC cannot be used"):
        registry.select("cuda", isa=stack.ISA)
