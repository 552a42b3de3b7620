"""Mutation tests of the checks: a fault planted in a Triton source must make the kernel's check fail."""

import importlib.util
from pathlib import Path

import pytest

import engine.kernels.triton
from engine.kernels import gpu
from tests.gpu import checks
from tests.support.networks import SMALL, SMALL_UNCONDITIONAL
from tests.support.tolerances import TOLERANCES

FOLDER = Path(engine.kernels.triton.__file__).parent
CONFIG = SMALL

FAULTS = {
    "residual_block": [
        ("(tap - 1) * dilation", "(1 - tap) * dilation"),  # the dilation's sign
        ("(source >= 0) & (source < length)", "source < length"),  # an edge mask
        ("(source >= 0) & (source < length)", "source >= 0"),
        ("bias_ptr + 2 * CHANNELS + columns", "bias_ptr + 4 * CHANNELS + columns"),
        ("rows >= length - dilation", "rows >= length"),
        ("rows < length * accumulate", "rows < length"),
        ("0.7071067811865476", "0.7"),
        ("bias_ptr + 6 * CHANNELS", "bias_ptr + 5 * CHANNELS"),
        ("mask=inside)\n        if not EARLY", "mask=(rows >= 0)[:, None])\n        if not EARLY"),  # past the end
        ("gated(gate, filtered, APPROXIMATE)", "gated(filtered, gate, APPROXIMATE)"),
        ("tl.load(weights + CHANNELS)", "tl.load(weights)"),
    ],
    "output_head": [
        ("tl.maximum(hidden, 0.0)", "hidden"),
        ("tl.load(terms_ptr + 1) * eps", "tl.load(terms_ptr) * eps"),
        ("tl.load(noise_step_ptr)", "tl.load(noise_step_ptr) * 0"),  # the noise's counter
        ("tl.load(begins_ptr + item) + tile", "tile"),
        ("tl.maximum(x, -limit)", "x"),
        ("eps += tl.load(out_bias_ptr)", "eps += 0.0"),
    ],
    "noise": [
        ("tl.philox(seed,", "tl.philox(seed + 1,"),  # the key
        ("tl.philox(seed,", "tl.philox(seed & 0xFFFFFFFF,"),
        ("tl.join(tl.join(n0, n2), tl.join(n1, n3))", "tl.join(tl.join(n0, n1), tl.join(n2, n3))"),
        ("0x20000000", "0x10000000"),
        ("-1.9515295891e-4", "-1.9515e-4"),
    ],
    "upsample_mel": [
        ("band + 1 - k", "band - 1 + k"),
        ("(m >= 0) & (m < BANDS)", "m >= 0"),
        ("row_in < rows_in", "row_in <= rows_in"),
        ("0.4 * total", "0.2 * total"),
        ("phase + tap * stride", "phase"),
    ],
    "project_conditioner": [("layer.to(tl.int64) * tl.num_programs(2)", "layer.to(tl.int64) * 0")],
    "input_projection": [("tl.maximum(h, 0.0)", "h"), ("mask=(rows < length)[:, None])", "mask=(rows >= 0)[:, None])")],
    "step_embedding": [("if tap == 0", "if tap == 1"), ("1.0 + tl.exp(-y)", "1.0 + tl.exp(y)")],
}


# The functions of the files whose functions have other names than the file.
FUNCTIONS = {"noise": ("initial_noise",), "step_embedding": ("linear", "fold_step")}


def error_of(name, device):
    """Return the worst error of the checks of a file's functions, divided by the tolerance; 1 is the limit."""
    unconditional, fp32 = SMALL_UNCONDITIONAL, TOLERANCES["operation_fp32"]
    lengths = (300, 7, 129)
    if name == "residual_block":
        layers = (checks.residual_block(device, CONFIG, "fp32", lengths, layer) for layer in (0, 3))
        return max(layers) / fp32
    if name == "noise":
        net = checks.network(device, unconditional, "fp32")
        same = checks.initial_noise(device, net, (2**64 - 1, 5), (2**34, 400), (300, 1027))
        return 0.0 if same else float("inf")
    if name == "output_head":
        return checks.output_head(device, unconditional, "fp32", lengths) / fp32
    if name == "upsample_mel":
        return checks.upsample_mel(device, CONFIG, "fp32", (3, 1)) / fp32
    if name == "project_conditioner":
        return checks.project_conditioner(device, CONFIG, "fp32", lengths) / fp32
    if name == "input_projection":
        return checks.input_projection(device, unconditional, "fp32", lengths) / fp32
    return checks.fold_steps(device, CONFIG, "fp32", (3.0,)) / fp32


def planted(name, right, wrong, folder):
    """Import a copy of a file in which `wrong` replaces `right`."""
    source = (FOLDER / f"{name}.py").read_text()
    assert source.count(right) == 1, f"{name}: {right!r} occurs {source.count(right)} times"
    path = folder / f"faulty_{name}.py"
    path.write_text(source.replace(right, wrong))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", FAULTS)
def test_kernels_without_a_fault_pass(device, name):
    assert error_of(name, device) < 1


# Every second fault of a file; `make slow` runs the others.
CASES = [
    pytest.param(name, *fault, marks=[pytest.mark.slow] * (number % 2))
    for name, faults in FAULTS.items()
    for number, fault in enumerate(faults)
]


@pytest.mark.parametrize(("name", "right", "wrong"), CASES)
def test_faults_are_detected(device, monkeypatch, tmp_path, name, right, wrong):
    module = planted(name, right, wrong, tmp_path)
    for function in FUNCTIONS.get(name, (name,)):
        monkeypatch.setattr(gpu, function, getattr(module, function))
    try:
        error = error_of(name, device)
    except AssertionError:
        return
    assert not error < 1  # NaN counts as a failure of the kernel
