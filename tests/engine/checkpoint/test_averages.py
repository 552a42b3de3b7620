"""Averages over the training that trainers store beside the weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.checkpoint.load import load_checkpoint
from engine.errors import CheckpointError, InputError
from tests.support.contents import (
    AVERAGE,
    LMNT,
    NETWORK,
    assert_loads,
    lightning,
    saved,
    tensors,
)

torch = pytest.importorskip("torch")


def averages() -> dict[str, Callable[[], dict[str, Any]]]:
    """Return checkpoints with raw and averaged weights, as common trainers write them."""
    raw, ema = tensors(), tensors(AVERAGE)
    under = lambda prefix, values: {prefix + name: tensor for name, tensor in values.items()}  # noqa: E731
    flat = {f"model_ema.{name.replace('.', '')}": tensor for name, tensor in ema.items()}
    lists = {"decay": 0.999, "num_updates": 5, "shadow_params": list(ema.values()), "collected_params": None}
    return {
        "a key": lambda: {**LMNT, "ema": ema},
        "a key with a wrapper": lambda: {**LMNT, "ema_state_dict": under("module.", ema)},
        "AveragedModel": lambda: {**LMNT, "swa_model": {"n_averaged": torch.tensor(5), **under("module.", ema)}},
        "nested": lambda: {**LMNT, "EMA": {"decay": 0.999, "shadow": ema}},
        "torch_ema": lambda: {**LMNT, "ema": lists},
        "a prefix": lambda: {**LMNT, "model": {**under("model.", raw), **under("model_ema.", ema)}},
        "ema_pytorch": lambda: {
            **LMNT,
            "model": {"initted": torch.tensor(True), **under("online_model.", raw), **under("ema_model.", ema)},
        },
        "LitEma": lambda: {**LMNT, "model": {**under("model.", raw), "model_ema.decay": torch.tensor(0.9), **flat}},
        "Lightning's callback": lambda: lightning(callbacks={"EMA": {"ema_state_dict": under("model.", ema)}}),
    }


@pytest.mark.parametrize("kind", averages())
def test_averages_are_selected_on_request(tmp_path: Path, kind: str) -> None:
    path = saved(tmp_path, averages()[kind]())
    raw, ema = load_checkpoint(path), load_checkpoint(path, weights="ema")
    assert_loads(raw)
    assert_loads(ema, AVERAGE)
    assert (raw.weights, raw.other_weights) == ("raw", ("ema",))
    assert (ema.weights, ema.other_weights) == ("ema", ("raw",))


def test_unavailable_weights_are_an_error(tmp_path: Path) -> None:
    path = saved(tmp_path, LMNT)
    assert load_checkpoint(path).other_weights == ()
    with pytest.raises(InputError, match=r"weights: expected 'raw', the only ones in .*weights.pt, got 'ema'"):
        load_checkpoint(path, weights="ema")
    path = saved(tmp_path, {"ema": tensors(AVERAGE), "params": LMNT["params"]})
    assert_loads(load_checkpoint(path, weights="ema"), AVERAGE)
    with pytest.raises(InputError, match=r"weights: expected 'ema', the only ones in .*weights.pt, got 'raw'"):
        load_checkpoint(path, weights="raw")
    alone = load_checkpoint(path)
    assert_loads(alone, AVERAGE)
    assert alone.weights_line() == ("weights ema: the file has no others",)
    with pytest.raises(InputError, match="weights: expected one of raw, ema, got 'best'"):
        load_checkpoint(path, weights="best")


def test_incomplete_average_is_an_error_only_on_request(tmp_path: Path) -> None:
    part = dict(list(tensors(AVERAGE).items())[:-1])
    path = saved(tmp_path, {**LMNT, "ema": part})
    assert_loads(load_checkpoint(path))
    with pytest.raises(CheckpointError, match=r"missing: 'output_projection\.bias'"):
        load_checkpoint(path, weights="ema")


def prefixed(prefix: str, network: Any) -> dict[str, Any]:
    return {prefix + name: tensor for name, tensor in tensors(network).items()}


BOTH = {**prefixed("online_model.", NETWORK), **prefixed("ema_model.", AVERAGE), "step": torch.tensor([3])}
AVERAGES: dict[str, dict[str, Any]] = {
    "lucidrains, beside the weights": {**LMNT, "ema": BOTH},
    "lucidrains, alone": {**LMNT, "model": BOTH},
    "Lightning's WeightAveraging": lightning(
        state_dict=prefixed("model.", AVERAGE),
        current_model_state=prefixed("model.", NETWORK),
        averaging_state={"n_averaged": torch.tensor(5)},
    ),
    "a callback of Lightning": lightning(callbacks={"EMA{'decay': 0.99}": {"shadow": prefixed("model.", AVERAGE)}}),
    "NeMo": lightning(optimizer_states=[{"state": {}, "ema": tuple(tensors(AVERAGE).values())}]),
    "a list": {**LMNT, "ema_params": list(tensors(AVERAGE).values())},
    "polyak": {**LMNT, "polyak": tensors(AVERAGE)},
    "camel case": {**LMNT, "modelEma": tensors(AVERAGE)},
    "avg": {**LMNT, "avg_model": prefixed("module.", AVERAGE)},
    "numpy": {**LMNT, "ema": {name: tensor.numpy() for name, tensor in tensors(AVERAGE).items()}},
}


@pytest.mark.parametrize("name", AVERAGES)
def test_averages_of_other_trainers(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, AVERAGES[name])
    raw = load_checkpoint(path)
    assert_loads(raw)
    assert (raw.weights, raw.other_weights) == ("raw", ("ema",))
    assert_loads(load_checkpoint(path, weights="ema"), AVERAGE)
