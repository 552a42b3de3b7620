"""Every peer computes the same network. Those that are not installed are skipped; compiling them is slow."""

from functools import cache

import numpy as np
import pytest
import torch

from benchmarks import lmnt, peers
from engine import Voice
from engine.checkpoint.load import Checkpoint
from engine.diffusion.embedding import step_biases
from engine.kernels import registry
from tests.support.networks import SMALL, random_network, shared_example
from tests.support.tolerances import TOLERANCES, relative_error

pytestmark = pytest.mark.usefixtures("one_torch_thread")

MEL = np.random.default_rng(0).random((80, 172), dtype=np.float32)
ERRORS = {"fp32": TOLERANCES["network_audio_fp32"], "bf16": TOLERANCES["network_audio_bf16"], "int8": 1.0}
SLOW = ("compile", "int8")


@cache
def checkpoint():
    return Checkpoint(SMALL, random_network(SMALL, 1))


@cache
def exported():
    return peers.Exported(checkpoint(), MEL)


@pytest.mark.parametrize(
    "peer",
    [
        pytest.param(one, id=one.name, marks=[pytest.mark.slow] * any(word in one.name for word in SLOW))
        for one in peers.PEERS
    ],
)
def test_the_same_audio(peer):
    for module in peer.needs:
        pytest.importorskip(module)
    mels = np.stack([MEL[:, :3], MEL[:, 3:6]])
    made = peers.prepared(peer, exported(), peers.Task(checkpoint(), mels, 5, 1))
    assert not isinstance(made, str), made
    expected = Voice(checkpoint(), registry.select("cpu", "fp32"), 1).vocode(mels, seed=5)
    for audio in (made[0](), made[1]):
        assert relative_error(audio, expected) < ERRORS[peer.precision]


def test_who_cannot_take_part_says_why():
    task = peers.Task(checkpoint(), MEL[None, :, :1], 5, 1)
    absent = peers.Peer("absent", "fp32", ("no_such_module",), lambda exported, task: lambda: MEL)
    assert peers.prepared(absent, exported(), task) == "No module named 'no_such_module'; pip install '.[bench]'"

    def broken(exported, task):
        raise ValueError("no\ncompiler")

    assert peers.prepared(peers.Peer("broken", "fp32", (), broken), exported(), task) == "ValueError: no compiler"


def test_the_model_is_lmnts():
    """Against what LMNT's own code computed; and against that code itself, where it is installed."""
    found, case = shared_example("lmnt")
    x, mel, t = (torch.as_tensor(case[name]) for name in ("x", "mel", "t"))
    d = torch.from_numpy(step_biases(found.tensors, found.config, (float(t),))[0]).float()
    with torch.no_grad():
        eps = lmnt.Network(found)(x, d, mel)
        assert relative_error(eps, case["eps"]) < TOLERANCES["fixture_eps_fp32"]
        pytest.importorskip("diffwave")
        own = lmnt.published(found)(x, mel, t.float().reshape(1))[:, 0]
        assert relative_error(eps, own) < TOLERANCES["fixture_eps_fp32"]
