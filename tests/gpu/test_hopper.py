"""Residual layers in groups for Hopper (stack.cu): compiled by NVRTC, executed in the PTX interpreter, disassembled."""

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
from engine.kernels.cuda import build
from engine.kernels.cuda.groups import groups
from engine.kernels.gpu import GpuNetwork
from engine.kernels.hopper import layout, stack
from tests.gpu import checks
from tests.gpu.devices import SimulatedDevice
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
from tests.support.networks import SMALL
from tests.support.targets import weights
from tests.support.tolerances import TOLERANCES

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    pytest.mark.skipif(build.obstacle() is not None, reason=str(build.obstacle())),
]


class Hopper(SimulatedDevice):
    """A simulated GPU with the instruction set sm_90a."""

    isa = stack.ISA

    def __init__(self, **options):
        super().__init__(90, **options)


@pytest.fixture
def columns(monkeypatch):
    """Return a function that leaves one width of tiles to choose from."""
    return lambda width: monkeypatch.setattr(stack, "COLUMNS", (width,))


def case(config, groups, width, lengths, precision="fp16", pairs=False, slow=False):
    return pytest.param(config, groups, width, lengths, precision, pairs, marks=[pytest.mark.slow] * slow)


CASES = [
    case(TEN, FIRST, 32, (70, 7, 1)),
    case(TEN, FIRST, 32, (70, 7), "bf16"),
    case(TEN, FIRST, 128, (300,)),
    case(TEN, FIRST, 88, (150,), slow=True),
    case(SEVEN, SECOND, 16, (300, 17), slow=True),
    case(SEVEN, SECOND, 48, (2000, 3), slow=True),
    case(SEVEN, ALL, 24, (111,)),
    case(TEN, ALL, 32, (300,), slow=True),
    case(TEN, ALL, 32, (600, 5, 133), slow=True),
    case(TEN, ALL, 32, (300,), "bf16", slow=True),
    case(SHORT, ALL, 16, (40, 2)),
    case(TEN, FIRST, 32, (40, 7), pairs=True),
    case(SEVEN, SECOND, 16, (40,), pairs=True),
    case(SEVEN, SECOND, 16, (200, 17), pairs=True, slow=True),
    case(TEN, FIRST, 128, (500,), "bf16", pairs=True, slow=True),
    case(replace(TEN, **UNCONDITIONAL), FIRST, 32, (70, 7)),
    case(replace(SMALL, residual_channels=48, residual_layers=3, step_bias_in_residual=True), ALL, 16, (40, 3)),
    *(case(TEN, FIRST, width, (300, 9), slow=True) for width in stack.COLUMNS if width >= 64),
    *(case(replace(TEN, n_mels=bands), FIRST, 32, (90,), slow=True) for bands in (1, 100, 128)),
]


@pytest.mark.parametrize(("config", "groups", "width", "lengths", "precision", "pairs"), CASES)
def test_layers_match_the_reference(columns, config, groups, width, lengths, precision, pairs):
    columns(width)
    error = checks.residual_stack(Hopper(), config, precision, lengths, groups, pairs)
    print(f"{lengths} samples, {2 * width} a tile, {precision}: {error:.1e}")
    assert error < TOLERANCES[f"operation_{precision}"]


def output_of(width, pairs):
    """Return h and the skip sum after the first group, which start from the same rows."""
    device, length = Hopper(checks=False), 100
    net = GpuNetwork(TEN, weights(TEN), device, "fp16", stack.ISA)
    net.pairs = pairs
    buffers = checks.allocate(device, net, (length,))
    for tensor in (buffers.h[0], buffers.stages[-1]):
        checks.fill_rows(device, tensor, (length,))
    device.fill(buffers.biases[0], checks.random(*buffers.biases[0].shape))
    checks.run(device, net.residual_stack(buffers, 0, 0))
    return [tensor[0, :length].numpy().tobytes() for tensor in (buffers.h[1], buffers.skip)]


def test_bytes_depend_on_neither_the_width_of_tiles_nor_pairs(columns):
    columns(32)
    expected = output_of(32, False)
    assert output_of(32, True) == expected
    columns(72)
    assert output_of(72, False) == expected


STEPS = [
    ((40, 7), THREE, "fp16", {}),  # one group: Triton's input projection
    ((70, 7), SHORT, "fp16", {}),
    ((40, 7), SHORT, "bf16", {"read_noise": True}),
    ((40, 7), replace(SHORT, prior=True), "fp16", {"pairs": True}),
    ((40, 1), replace(SHORT, **UNCONDITIONAL), "fp16", {"sigma": 0.0}),
    pytest.param((300, 17), SEVEN, "fp16", {"pairs": True}, marks=pytest.mark.slow),
    pytest.param((300,), TEN, "fp16", {}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("lengths", "config", "precision", "options"), STEPS)
def test_a_whole_step_matches_the_reference(columns, lengths, config, precision, options):
    columns(32)
    device = Hopper()
    error = checks.step_in_groups(device, config, precision, lengths, **options)
    print(f"{lengths} samples, {precision}: {error:.1e}, {device.launched}")
    assert error < TOLERANCES[f"operation_{precision}"]


def test_the_noise_is_that_of_its_definition_bit_for_bit(columns):
    columns(16)
    assert noise_is_right(Hopper(checks=False))


def test_labels_match_the_reference(columns):
    columns(16)
    assert labels_are_right(Hopper())


def test_guidance_matches_its_formula(columns):
    columns(16)
    assert guidance_is_right(Hopper(checks=False))


@pytest.mark.parametrize("plant", LABEL_FAULTS, ids=lambda plant: plant.__name__)
def test_wrong_labels_are_detected(columns, monkeypatch, plant):
    columns(16)
    plant(monkeypatch)
    assert not labels_are_right(Hopper(checks=False)) and not guidance_is_right(Hopper(checks=False))


def raise_matrix_waits(ptx):
    """Let one more group of products stay in flight."""
    wait = r"(wgmma\.wait_group\.sync\.aligned\s+)(\d)"
    return mutate.mutants(ptx, wait, lambda match: f"{match[1]}{int(match[2]) + 1}", "raised wait")


def drop_slot_waits(ptx):
    """Drop waits for weights, and for slots that are still read."""
    return mutate.mutants(ptx, r"AGAIN: mbarrier\.try_wait[^;]*;[^;]*;", mutate.nothing, "dropped wait")


def drop_arrivals(ptx):
    return mutate.mutants(ptx, r"mbarrier\.arrive[^;]*;", mutate.nothing, "dropped arrival")


def shift_descriptors(ptx):
    """Change the distance of planes in the descriptors of h, or of 8 columns of K in those of the weights."""
    layouts = r"\b(or\.b64\s+%rd\d+, %rd\d+, )(\d{7,})\s*;"
    return mutate.mutants(ptx, layouts, lambda match: f"{match[1]}{int(match[2]) + (1 << 16)};", "wrong pitch")


def negate_taps(ptx):
    """Add the dilation to the start of the first tap instead of subtracting it."""
    start = r"(shl\.b32\s+%r\d+, %r\d+, 4;\s+mov\.u32\s+%r\d+, 128;\s+)sub\.s32"
    return mutate.mutants(ptx, start, lambda match: f"{match[1]}add.s32", "wrong tap")


KINDS = [
    mutate.drop_barriers,
    mutate.drop_waits,
    mutate.drop_matrix_waits,
    raise_matrix_waits,
    mutate.drop_fences,
    drop_slot_waits,
    drop_arrivals,
    shift_descriptors,
    negate_taps,
]


@pytest.mark.parametrize(
    ("head", "every"),
    [(True, False), *(pytest.param(head, True, marks=pytest.mark.slow) for head in (True, False))],
)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_faults_are_detected(columns, kind, head, every):
    columns(32)
    ptx = stack.kernel(3, 32, 80, False, macros=("HEAD",) * head).compile(90).asm["ptx"]
    mutants = list(kind(ptx))
    mutants = mutants if every else mutants[len(mutants) // 2 :][:1]  # `make slow` runs all
    missed = [mutant.name for mutant in mutants if not detected(Hopper(), mutant.ptx, ptx, head, 40)]
    print(f"{kind.__name__}: {len(mutants) - len(missed)} of {len(mutants)} detected, not {missed}")
    assert mutants and not missed


def test_launches_read_the_output_of_the_one_before_after_the_wait():
    """A launch begins while the one before it ends, which an interpreter of single kernels does not model."""
    for bands in (0, 80):
        ptx = stack.kernel(4, 32, bands, False).compile(90).asm["ptx"]
        before, after = ptx.split("griddepcontrol.wait;")
        assert "griddepcontrol.launch_dependents" in before
        assert re.findall(r"ld\.global\S*", before) == ["ld.global.nc.u32"] and "st.global" not in before  # the length
        assert ("cp.async.cg" in before) == (bands > 0)  # the mel, which no dependent launch writes
        assert "cp.async.cg" in after and "ld.global.v4" in after and "st.global.v4" in after
    before, after = (
        stack.kernel(4, 32, 80, False, macros=("ENTRY",)).compile(90).asm["ptx"].split("griddepcontrol.wait;")
    )
    assert not re.search(r"(ld|st)\.global|cp\.async", before)  # the launch before it may write anything
    assert re.search(r"ld\.global\.(b|f)32", after)  # the audio, which must not come from a read-only cache


QUICK = [(4, 128, "ENTRY", False), (3, 128, "neither", False), (3, 128, "HEAD", False)]
SLOW = [(n, width, part, bf16) for n in (3, 4) for width in stack.COLUMNS for part in PARTS for bf16 in (False, True)]
SLOW = [case for case in SLOW if case not in QUICK and (not case[3] or case[1] in (104, 128))]


@pytest.mark.parametrize(
    ("layers", "width", "part", "bf16"), [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)]
)
def test_machine_code(layers, width, part, bf16):
    kernel = stack.kernel(layers, width, 80, bf16, macros=PARTS[part])
    code = machine_code(kernel, 90)  # compiling raises an error for spills and for serialized products
    assert (code.stack, code.local) == (0, 0) and not code.count("LDL|STL"), code
    head = 4 * ("HEAD" in part)
    assert code.count("HGMMA") == 2 * (3 * 4 + 5) + 8 + head  # both halves with the mel; residual and skip of both
    assert code.count("MUFU.TANH") == width
    assert code.count("UBLKCP") and code.count(r"LDGSTS\S*\.128")
    assert bool(code.count(r"STG\S*\.128")) == (not head)
    assert not code.count(r"(LDG|STG)\S*\.[US](8|16)"), code.opcodes
    # A fence for all memory, instead of shared memory, waits for every store.
    assert not code.count(r"MEMBAR\S*\.(GPU|SYS)"), code.opcodes
    assert MULTIPROCESSORS[90].programs(code) == 1


@pytest.mark.slow
def test_pairs_receive_weights_by_multicast():
    code = machine_code(stack.kernel(4, 128, 80, False, (2, 1, 1)), 90)
    assert (code.stack, code.local) == (0, 0) and code.count(r"UBLKCP\S*MULTICAST"), code.opcodes


def test_code_that_spills_is_refused():
    """160 samples a warpgroup need 240 registers for accumulators alone."""
    with pytest.raises(engine.UnavailableError, match=r"isa: NVRTC \S+ compiles 'sm_90a' with \d+ bytes of local mem"):
        stack.kernel(1, 160, 0, False).compile(90)


def test_the_report_of_ptxas():
    clean = "ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads"
    assert build.slow_code(clean) is None
    assert (
        build.slow_code(clean.replace("0 bytes spill s", "24 bytes spill s"))
        == "with 24 bytes of local memory a thread"
    )
    serialized = "Potential Performance Loss: wgmma.mma_async instructions are serialized due to insufficient registers"
    assert build.slow_code(f"{clean}\n{serialized}") == "with products that wait for each other"
    assert build.slow_code("") == "without a report on its registers"


def test_layers_are_divided_into_groups():
    def shape(layers, cycle):
        dilations = replace(BASE, residual_layers=layers, dilation_cycle=cycle).dilations
        return [(group.layers, group.stride) for group in groups(dilations)]

    assert shape(30, 10) == [(4, 1), (3, 16), (3, 128)] * 3
    assert shape(36, 12) == [(4, 1), (4, 16), (4, 256)] * 3
    assert shape(9, 7) == [(4, 1), (3, 16), (2, 1)]
    assert shape(5, 5) == [(3, 1), (2, 8)]
    assert shape(3, 1) == [(1, 1)] * 3
    assert [group.first for group in groups(TEN.dilations)] == [0, 4, 7]


def test_the_width_of_tiles_fills_the_multiprocessors():
    """One second of audio fills one wave of an H100's 132 multiprocessors."""
    for group in groups(TEN.dilations):
        width = stack.best_columns(group, 80, 1, 22050, 132)
        tiles, phases, _ = stack.grid(group, width, 1, 22050)
        assert 64 <= width <= 128 and 110 <= tiles * phases <= 132, (group, width, tiles, phases)
        assert stack.best_columns(group, 80, 16, 110250, 132) >= 112  # many waves: less overlap
        assert stack.shared_bytes(stack.best_columns(group, 160, 1, 110250, 132), 160) <= 232448
    assert stack.grid(groups(TEN.dilations)[0], 128, 2, 1000, pair=True) == (6, 1, 2)


def test_a_plan_has_no_conditioner():
    for bands, size in ((80, 896), (0, 416)):
        config = BASE if bands else replace(BASE, n_mels=0, upsample_strides=())
        device = Hopper(size=1 << 24)
        net = GpuNetwork(config, weights(config), device, "fp16", stack.ISA)
        assert net.bytes_per_sample() == size
        before = device.machine.top
        buffers = net.buffers(1, 1024, 1, False)
        assert buffers.conditioner is None
        assert device.machine.top - before < 1.1 * 1024 * size + 40 * 8192  # gaps between buffers


def test_gates_and_filters_lie_in_one_thread():
    columns = [layout.gate_columns(half) for half in range(2)]
    assert sorted(np.concatenate(columns)) == list(range(128))
    for order in columns:
        rows = order.reshape(4, 2, 8)  # warp, gate or filter, row
        np.testing.assert_array_equal(rows[:, 0] + 1, rows[:, 1])


UNSUPPORTED = [
    ({"residual_channels": 128}, "fp16", "up to 64 channels in fp16 and bf16, this network has 128 in fp16"),
    ({}, "tf32", "up to 64 channels in fp16 and bf16, this network has 64 in tf32"),
    ({"padding": "reflect"}, "fp16", "zero padding, this network has padding='reflect'"),
    ({"shared_upsampler": False}, "fp16", "one mel upsampler, this network has one in every layer"),
    ({"n_mels": 512}, "fp16", "mels that fit into shared memory, this network has 512 bands"),
]


@pytest.mark.parametrize(("changes", "precision", "message"), UNSUPPORTED)
def test_unsupported_networks_raise_an_error(changes, precision, message):
    config = replace(BASE, residual_layers=1, **changes)
    with pytest.raises(engine.UnavailableError, match=f"isa: 'sm_90a' supports {message}; leave isa out"):
        kernels_of(config, precision, 90, stack.ISA)


def test_only_hopper_is_compiled_for():
    with pytest.raises(ValueError, match="expected compute capability 90, got 100"):
        stack.kernel(4, 32, 80, False).compile(100)


def test_a_compile_error_reports_the_log():
    with pytest.raises(RuntimeError, match=r"stack\.cu: .*error"):
        replace(stack.kernel(4, 32, 80, False), defines=(("u32", 0),)).compile(90)


def choice_on(monkeypatch, architecture, **options):
    monkeypatch.setattr(gpu_device, "obstacle", lambda index: None)
    monkeypatch.setattr(gpu_device, "describe", lambda index: "a GPU")
    monkeypatch.setattr(gpu_device, "isa", lambda index: architecture)
    return registry.select("cuda", **options)


def test_it_is_selected_by_its_name(monkeypatch):
    with pytest.raises(
        engine.UnavailableError, match=r"isa: 'sm_90a' needs compute capability 9\.0, this GPU is sm_80"
    ):
        choice_on(monkeypatch, "sm_80", isa=stack.ISA)
    choice = choice_on(monkeypatch, "sm_90", isa=stack.ISA)
    assert choice == replace(registry.select(isa=stack.ISA), reasons=choice.reasons)
    assert "isa sm_90a: requested; residual layers in groups, in CUDA" in choice.reasons
    assert registry.settle(choice, TEN) == choice
    with pytest.raises(engine.UnavailableError, match=r"isa: 'sm_90a' supports zero padding, .*; leave isa out"):
        registry.settle(choice, replace(TEN, padding="reflect"))
    monkeypatch.setattr(stack.CudaKernel, "compile", refuse)
    with pytest.raises(engine.UnavailableError, match=r"^isa: NVRTC 1\.2 spills; leave isa out$"):
        registry.settle(choice, TEN)
    monkeypatch.setattr(build, "obstacle", lambda: "NVRTC cannot be used (gone): pip install it")
    with pytest.raises(engine.UnavailableError, match="needs NVRTC: NVRTC cannot be used"):
        registry.select("cuda", isa=stack.ISA)


def refuse(kernel, capability):
    raise engine.UnavailableError("isa: NVRTC 1.2 spills; leave isa out")


def test_as_a_default_it_leaves_to_triton_what_it_cannot_run(monkeypatch):
    choice = choice_on(monkeypatch, "sm_90")
    assert registry.settle(choice, TEN) == choice  # measured on no GPU yet: Triton is the default
    monkeypatch.setattr(registry, "STACK_IS_DEFAULT", True)
    settled = registry.settle(choice, TEN)
    assert settled.isa == stack.ISA
    assert "isa sm_90a: the GPU's architecture; residual layers in groups, in CUDA" in settled.reasons
    wide = registry.settle(choice, replace(TEN, residual_channels=128))
    assert wide.isa == "sm_90" and any("isa sm_90: Triton, as 'sm_90a' supports up to 64" in r for r in wide.reasons)
    monkeypatch.setattr(stack.CudaKernel, "compile", refuse)
    assert "isa sm_90: Triton, as NVRTC 1.2 spills" in registry.settle(choice, TEN).reasons
    monkeypatch.setattr(build, "obstacle", lambda: "NVRTC cannot be used (gone)")
    assert "isa sm_90: Triton, as NVRTC cannot be used (gone)" in registry.settle(choice, TEN).reasons
    ampere = choice_on(monkeypatch, "sm_80")
    assert registry.settle(ampere, TEN) == ampere
    assert registry.settle(registry.select("cpu"), TEN) == registry.select("cpu")
