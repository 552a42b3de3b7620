"""The fused training layers in Triton's interpreter, against the gradient of the reference in float64."""

import pytest

from engine.training import fused
from tests.gpu import training_checks
from tests.gpu.devices import InterpretedDevice
from tests.gpu.interpreted.test_faults import planted
from tests.support.tolerances import TOLERANCES

CASES = {
    "a label": {},
    "a mel": {"bands": 80},
    "few bands": {"bands": 5, "batch": 1},
    "whole tiles": {"length": 128, "bands": 16, "dilations": (1, 64)},
    "one layer": {"dilations": (3,)},
    "shorter than a tile": {"length": 20},
    "64 channels": {"channels": 64, "bands": 80, "batch": 1, "length": 70, "dilations": (1, 8)},
}


# fp32 in every case; fp16 in one, and `make slow` in the others.
@pytest.mark.parametrize(
    ("precision", "case"),
    [("fp32", case) for case in CASES]
    + [pytest.param("fp16", case, marks=[pytest.mark.slow] * (case != "a mel")) for case in CASES],
)
def test_values_and_gradients_match_the_reference(precision, case):
    errors = training_checks.errors(InterpretedDevice(1), precision, **CASES[case])
    limit = TOLERANCES[f"training_{precision}"]
    assert all(error < limit for error in errors.values()), errors


FAULTS = [
    ("source = rows + (tap - 1) * dilation", "source = rows - (tap - 1) * dilation"),  # forward
    (
        "exists = ((source >= 0) & (source < length))[:, None]\n        u =",
        "exists = (source < length)[:, None]\n        u =",
    ),
    ("filtered += tl.load(base + C)", "filtered += tl.load(base)"),
    ("gate = tl.dot(mel,", "filtered = tl.dot(mel,"),
    ("next_d_ptr + item * C", "next_d_ptr"),
    ("residual *= 0.7071067811865476", "residual *= 0.7"),
    ("tl.dot(skip, tl.load(w + C * C), d_z", "tl.dot(skip, tl.load(w), d_z"),  # backward
    ("d_z * tanh * sigmoid * (1.0 - sigmoid)", "d_z * tanh * sigmoid"),
    ("d_z * sigmoid * (1.0 - tanh * tanh)", "d_z * sigmoid * (1.0 - tanh)"),
    ("tl.store(bias_ptr + part * C + channel, tl.sum(residual", "tl.store(bias_ptr + part * C + channel, tl.sum(skip"),
    ("source = rows - (tap - 1) * dilation", "source = rows + (tap - 1) * dilation"),
    ("d_u + 0.7071067811865476 * tl.load(h_ptr", "d_u + tl.load(h_ptr"),
    ("(d_h * 0.7071067811865476)", "d_h"),
    ("tl.where(inside, d_u, 0.0)", "d_h"),
    ("weights += K * COLUMNS", "weights += 0"),  # sums over layers and rows
    ("exists = (inside & (source >= 0))", "exists = inside"),
    ("source = rows + dilation\n", "source = rows + 1\n"),
    ("(item if ONE_A else layer * items + item)", "item"),
]


# Every third fault; `make slow` runs the others.
@pytest.mark.parametrize(
    ("right", "wrong"),
    [pytest.param(*fault, marks=[pytest.mark.slow] * (number % 3 > 0)) for number, fault in enumerate(FAULTS)],
)
def test_faults_are_detected(monkeypatch, tmp_path, right, wrong):
    module = planted("residual_training", right, wrong, tmp_path)
    for function in ("train_layer", "gate_gradient", "tap_gradient", "sum_products", "weight_gradient"):
        monkeypatch.setattr(fused, function, getattr(module, function))
    errors = training_checks.errors(InterpretedDevice(1), "fp32", bands=16, length=100, dilations=(1, 30, 200))
    # NaN counts as a failure of the kernel.
    assert not all(error < TOLERANCES["training_fp32"] for error in errors.values())
