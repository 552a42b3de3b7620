"""Conversion of every layout to LMNT's: weight norm as in torch, and refusal of impossible tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.checkpoint.canonical import fold_weight_norm
from engine.checkpoint.load import load_checkpoint
from tests.support.checkpoints import assert_refused
from tests.support.layouts import random_checkpoint

torch = pytest.importorskip("torch")

PHILSYN = "residual_layer.residual_blocks.1"


def write_changed(folder: Path, layout: str, change: Callable[[dict[str, Any]], None], **sizes: Any) -> Path:
    """Write a checkpoint with a changed state_dict."""
    path = random_checkpoint(folder, layout, **sizes).path
    content = torch.load(path, weights_only=True)
    change(next((content[key] for key in ("model", "model_state_dict", "state_dict") if key in content), content))
    torch.save(content, path)
    return path


def test_missing_conditioner_bias_is_zero(tmp_path: Path) -> None:
    def change(model: dict[str, Any]) -> None:
        for key in [key for key in model if key.endswith("mel_conv.conv.bias")]:
            del model[key]

    original = random_checkpoint(tmp_path, "philsyn")
    loaded = load_checkpoint(write_changed(tmp_path, "philsyn", change))
    for name, tensor in loaded.tensors.items():
        zero = name.endswith("conditioner_projection.bias")
        np.testing.assert_array_equal(tensor, np.zeros_like(tensor) if zero else original.tensors[name])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda m: m.pop(f"{PHILSYN}.fc_t.bias"), f"philsyn's names missing: '{PHILSYN}.fc_t.bias'; unexpected: none"),
        (
            lambda m: m.pop(f"{PHILSYN}.skip_conv.bias"),
            f"missing: '{PHILSYN}.skip_conv.bias'; unexpected: '{PHILSYN}.res_conv",
        ),
        (lambda m: m.pop(f"{PHILSYN}.res_conv.weight_g"), "unexpected: .*res_conv.weight_v"),
        (lambda m: m.pop(f"{PHILSYN}.res_conv.weight_v"), "unexpected: .*res_conv.weight_g"),
        (lambda m: m.update({f"{PHILSYN}.gate": torch.zeros(1)}), f"missing: none; unexpected: '{PHILSYN}.gate'"),
        (lambda m: m.update({"input_projection.bias": torch.zeros(16)}), "expected one tensor for .*, got two"),
        (lambda m: m.update({f"{PHILSYN}.res_conv.weight": torch.zeros(16, 16, 1)}), "with or without weight norm"),
        (lambda m: m.update({f"{PHILSYN}.res_conv.weight_g": torch.ones(16)}), r"shape \(16, 1, 1\), got \(16,\)"),
        (lambda m: m.update({f"{PHILSYN}.res_conv.weight_g": torch.ones(1, 1, 1)}), r"shape \(16, 1, 1\), got \(1,"),
        (lambda m: m.update({f"{PHILSYN}.res_conv.bias": torch.ones(())}), "expected a shape that fits"),
        (lambda m: m.update({f"{PHILSYN}.res_conv.bias": torch.ones(15)}), r"expected shape \(32,\), got \(31,\)"),
        (lambda m: m.update({f"{PHILSYN}.fc_t.weight": torch.zeros(512, 16)}), r"expected shape \(16, 512\), got"),
        (lambda m: m[f"{PHILSYN}.res_conv.weight_g"].fill_(torch.nan), "output_projection.weight: expected finite"),
        (lambda m: m[f"{PHILSYN}.dilated_conv_layer.conv.weight_v"].zero_(), "dilated_conv.weight: expected finite"),
        (lambda m: m["final_conv.0.conv.weight_g"].fill_(torch.inf), "skip_projection.weight: expected finite"),
        (lambda m: m.clear(), "expected the .* tensors of a DiffWave network"),
    ],
)
def test_impossible_tensors_of_philsyn_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], match: str
) -> None:
    assert_refused(write_changed(tmp_path, "philsyn", change), match)


def test_zero_weights_without_weight_norm_stay_zero(tmp_path: Path) -> None:
    """The last layer of an untrained philsyn network is zero."""
    loaded = load_checkpoint(write_changed(tmp_path, "philsyn", lambda m: m["final_conv.2.conv.weight"].zero_()))
    assert not loaded.tensors["output_projection.weight"].any()


def test_layer_number_with_a_leading_zero_is_refused(tmp_path: Path) -> None:
    def rename(model: dict[str, Any]) -> None:
        for key in [key for key in model if key.startswith(PHILSYN)]:
            model[key.replace("blocks.1.", "blocks.01.")] = model.pop(key)

    assert_refused(write_changed(tmp_path, "philsyn", rename), f"missing: '{PHILSYN}.dilated_conv_layer.conv.weight'")


def test_halves_and_rows_have_lmnts_order(tmp_path: Path) -> None:
    """In philsyn's file the tanh half comes first, and residual and skip are separate."""
    path = random_checkpoint(tmp_path, "philsyn_without_norm").path
    model = torch.load(path, weights_only=True)["model_state_dict"]
    loaded = load_checkpoint(path).tensors
    for theirs, ours in (("dilated_conv_layer.conv", "dilated_conv"), ("mel_conv.conv", "conditioner_projection")):
        for part in ("weight", "bias"):
            stored, tensor = model[f"{PHILSYN}.{theirs}.{part}"].numpy(), loaded[f"residual_layers.1.{ours}.{part}"]
            np.testing.assert_array_equal(tensor[:16], stored[16:])
            np.testing.assert_array_equal(tensor[16:], stored[:16])
    projection = loaded["residual_layers.1.output_projection.weight"]
    np.testing.assert_array_equal(projection[:16], model[f"{PHILSYN}.res_conv.weight"].numpy())
    np.testing.assert_array_equal(projection[16:], model[f"{PHILSYN}.skip_conv.weight"].numpy())


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("modern", [False, True])
def test_weight_norm_agrees_with_torch(tmp_path: Path, modern: bool) -> None:
    """Compare with torch modules under weight norm, as philsyn's code builds them."""
    from torch.nn.utils import parametrizations, weight_norm

    norm = parametrizations.weight_norm if modern else weight_norm
    generator = torch.Generator().manual_seed(1)
    modules = {
        "dilated_conv_layer.conv": torch.nn.Conv1d(16, 32, 3),
        "upsample_conv2d.0": torch.nn.ConvTranspose2d(1, 1, (3, 8), stride=(1, 4), padding=(1, 2)),
    }
    for module in modules.values():
        norm(module)
        for parameter in module.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        for hook in module._forward_pre_hooks.values():  # computes the weight
            hook(module, None)

    def change(model: dict[str, Any]) -> None:
        for name, module in modules.items():
            for key in [key for key in model if key.startswith(f"{PHILSYN}.{name}.")]:
                del model[key]
            model.update({f"{PHILSYN}.{name}.{key}": value for key, value in module.state_dict().items()})

    loaded = load_checkpoint(write_changed(tmp_path, "philsyn", change)).tensors
    dilated = modules["dilated_conv_layer.conv"].weight.detach().numpy()
    folded = loaded["residual_layers.1.dilated_conv.weight"]
    np.testing.assert_allclose(folded, np.concatenate([dilated[16:], dilated[:16]]), rtol=1e-6, atol=1e-9)
    upsampler = modules["upsample_conv2d.0"].weight.detach().numpy()
    folded = loaded["residual_layers.1.spectrogram_upsampler.conv1.weight"]
    np.testing.assert_allclose(folded, upsampler, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("layout", ["philsyn", "speechbrain", "amphion"])
def test_half_precision_is_converted(tmp_path: Path, layout: str) -> None:
    """BDDM stores its networks in half precision."""

    def change(model: dict[str, Any]) -> None:
        model.update({key: tensor.half() for key, tensor in model.items()})

    original = random_checkpoint(tmp_path, layout)
    loaded = load_checkpoint(write_changed(tmp_path, layout, change))
    for name, tensor in loaded.tensors.items():
        assert tensor.dtype == np.float32
        np.testing.assert_allclose(tensor, original.tensors[name], rtol=3e-3, atol=1e-6)


def test_weight_norm_is_folded_in_place() -> None:
    rng = np.random.default_rng(1)
    v, g = (rng.standard_normal(shape).astype(np.float32) for shape in ((5, 3, 2), (5, 1, 1)))
    exact = v.astype(np.float64)
    expected = g.astype(np.float64) * exact / np.sqrt(np.square(exact).sum(axis=(1, 2), keepdims=True))
    folded = fold_weight_norm(v, g)
    assert folded is v and folded.dtype == np.float32
    np.testing.assert_array_equal(folded, expected.astype(np.float32))
