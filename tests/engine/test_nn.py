"""The vocoder as a module of PyTorch: its audio is `vocode`'s, alone, compiled, exported and in another process."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import engine
from engine import InputError
from engine.checkpoint.load import Checkpoint, save_checkpoint
from engine.config import Config
from engine.nn import Vocoder, draw_seeds, vocode
from tests.support.networks import random_network

pytestmark = pytest.mark.usefixtures("one_torch_thread")

CONFIG = Config(residual_channels=16, residual_layers=5, dilation_cycle=4, n_mels=20, upsample_strides=(4, 4))
SEED = 11


class Speech(torch.nn.Module):
    """An acoustic model of one layer, and the vocoder."""

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__()
        self.acoustic = torch.nn.Conv1d(3, CONFIG.n_mels, 1)
        self.vocoder = Vocoder(path, seed=SEED, **options)

    def mel(self, text: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.acoustic(text))

    def forward(
        self, text: torch.Tensor, lengths: torch.Tensor | None = None, seeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        audio: torch.Tensor = self.vocoder(self.mel(text), lengths, seeds=seeds)
        return 2 * audio


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("nn") / "small.safetensors"
    save_checkpoint(path, Checkpoint(CONFIG, random_network(CONFIG, 0)))
    return path


@pytest.fixture(scope="module")
def speech(path: Path) -> Speech:
    torch.manual_seed(0)
    return Speech(path).eval()


@pytest.fixture
def text() -> torch.Tensor:
    return torch.randn(2, 3, 9, generator=torch.Generator().manual_seed(1))


def a_mel(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    "extra", [{}, {"steps": 3}, {"schedule": (0.1, 0.4)}, {"precision": "fp32", "threads": 1}], ids=str
)
def test_audio_is_that_of_vocode(path: Path, extra: dict[str, Any]) -> None:
    loading = {key: value for key, value in extra.items() if key in ("precision", "threads")}
    calling = {key: value for key, value in extra.items() if key not in loading}
    mel, vocoder = a_mel(2, 20, 9), Vocoder(path, seed=SEED, **extra)
    expected = engine.load(path, device="cpu", **loading).vocode(mel, seed=SEED, **calling)
    assert torch.equal(vocoder(mel), expected)
    assert vocoder(mel).shape == (2, 9 * vocoder.hop) and vocoder.sample_rate == CONFIG.sample_rate


def test_lengths_and_seeds_are_those_of_vocode(path: Path) -> None:
    mel, lengths, vocoder = a_mel(3, 20, 8), torch.tensor([8, 3, 5]), Vocoder(path)
    voice = engine.load(path, device="cpu")
    assert torch.equal(vocoder(mel, lengths), voice.vocode(mel, lengths=lengths))
    seeds = torch.tensor([2**62, 0, 5])
    assert torch.equal(vocoder(mel, lengths, seeds=seeds), voice.vocode(mel, lengths=lengths, seed=seeds.tolist()))


def test_a_generator_draws_the_seeds(path: Path) -> None:
    mel, vocoder = a_mel(2, 20, 6), Vocoder(path)
    seeds = draw_seeds(2, torch.Generator().manual_seed(4))
    audio = vocoder(mel, generator=torch.Generator().manual_seed(4))
    assert torch.equal(audio, vocoder(mel, seeds=seeds)) and not torch.equal(audio, vocoder(mel))
    torch.manual_seed(4)
    assert torch.equal(draw_seeds(2), seeds)
    with pytest.raises(InputError, match="seeds: expected None beside a generator"):
        vocoder(mel, generator=torch.Generator(), seeds=seeds)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_model_has_no_graph_break(speech: Speech, text: torch.Tensor, backend: str) -> None:
    compiled, lengths, seeds = (
        torch.compile(speech, fullgraph=True, backend=backend),
        torch.tensor([9, 4]),
        draw_seeds(2),
    )
    with torch.no_grad():
        assert torch.equal(compiled(text), speech(text))
        assert torch.equal(compiled(text, lengths, seeds), speech(text, lengths, seeds))
        assert torch.equal(compiled(text[:, :, :5]), speech(text[:, :, :5]))
    torch._dynamo.reset()


PROGRAM = """
import sys, torch, engine.nn
program, text = torch.export.load(sys.argv[1]).module(), torch.load(sys.argv[2])
torch.save([program(text[:, :, :frames]) for frames in (9, 4)], sys.argv[3])
"""


def test_an_exported_program_speaks_in_another_process(speech: Speech, text: torch.Tensor, tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("program.pt2", "text.pt", "audio.pt")]
    frames = torch.export.Dim("frames", min=2, max=100)
    with torch.no_grad():
        torch.export.save(torch.export.export(speech, (text,), dynamic_shapes=({2: frames},)), names[0])
        torch.save(text, names[1])
        subprocess.run([sys.executable, "-c", PROGRAM, *names], check=True, timeout=300)
        for audio, length in zip(torch.load(names[2]), (9, 4), strict=True):
            assert torch.equal(audio, speech(text[:, :, :length]))


def test_the_operator_keeps_the_rules_of_pytorch(speech: Speech) -> None:
    description = speech.vocoder._description
    for lengths in (None, torch.tensor([6, 2])):
        torch.library.opcheck(vocode, (a_mel(2, 20, 6), lengths, None, 0, CONFIG.hop, description))


@pytest.mark.filterwarnings("ignore:Error detected in GeneratedBackward")
def test_a_gradient_is_refused(speech: Speech, text: torch.Tensor) -> None:
    audio = speech(text)
    with pytest.raises(InputError, match=r"backward: the vocoder is for inference .* detach the mel"):
        audio.sum().backward()
    with pytest.raises(Exception, match="backward: the vocoder is for inference"):
        torch.compile(speech, fullgraph=True, backend="aot_eager")(text)
    torch._dynamo.reset()
    assert not speech.vocoder(speech.mel(text).detach()).requires_grad


def test_the_module_has_no_state(speech: Speech, text: torch.Tensor) -> None:
    assert not speech.vocoder.state_dict() and not list(speech.vocoder.parameters())
    speech.load_state_dict(speech.state_dict())
    with torch.no_grad():
        for other in (copy.deepcopy(speech), pickle.loads(pickle.dumps(speech))):
            assert torch.equal(other(text), speech(text))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_the_dtype_of_the_model_is_its_own(path: Path, dtype: torch.dtype) -> None:
    mel, vocoder = a_mel(1, 20, 6).to(dtype), Vocoder(path).to(dtype)
    assert vocoder(mel).dtype == torch.float32 and torch.equal(vocoder(mel), vocoder(mel.float()))


def test_it_follows_its_device(path: Path) -> None:
    vocoder = Vocoder(path).to("meta")
    audio = vocoder(torch.empty(2, 20, 6, device="meta"))
    assert audio.shape == (2, 6 * CONFIG.hop) and audio.device.type == "meta"
    with pytest.raises(InputError, match="mel: expected a tensor on meta like the vocoder, got cpu"):
        vocoder(a_mel(2, 20, 6))


def test_a_checkpoint_in_memory(path: Path, tmp_path: Path) -> None:
    mel, vocoder = a_mel(1, 20, 6), Vocoder(path.read_bytes())
    assert torch.equal(vocoder(mel), Vocoder(path)(mel)) and torch.equal(
        Vocoder(io.BytesIO(path.read_bytes()))(mel), vocoder(mel)
    )
    saved = tmp_path / "vocoder.pickle"
    saved.write_bytes(pickle.dumps(vocoder))
    program = f"import pickle, torch\npickle.load(open({str(saved)!r}, 'rb'))(torch.rand(1, 20, 6))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode and "which this process never saw" in done.stderr


def test_a_changed_checkpoint_is_another(path: Path, tmp_path: Path) -> None:
    mel, file = a_mel(1, 20, 6), tmp_path / "changing.safetensors"
    file.write_bytes(path.read_bytes())
    before = Vocoder(file)
    expected = before(mel)
    unused = Vocoder(file, steps=3)
    save_checkpoint(file, Checkpoint(CONFIG, random_network(CONFIG, 1)))
    assert torch.equal(Vocoder(file)(mel), engine.load(file, device="cpu").vocode(mel))
    assert torch.equal(before(mel), expected) and not torch.equal(Vocoder(file)(mel), expected)
    with pytest.raises(InputError, match="safetensors has changed since"):
        unused(mel)


def test_large_seeds(path: Path) -> None:
    mel, seed = a_mel(1, 20, 6), 2**64 - 1
    assert torch.equal(Vocoder(path, seed=seed)(mel), engine.load(path, device="cpu").vocode(mel, seed=seed))


def test_a_mel_is_checked(path: Path) -> None:
    vocoder = Vocoder(path)
    for mel, message in (
        (torch.rand(20, 6), r"mel: expected \[B, 20, T\], got \[20, 6\]"),
        (torch.ones(1, 20, 6, dtype=torch.int64), "mel: expected a floating-point type, got torch.int64"),
        (torch.rand(1, 21, 6), "mel: expected .*20"),
        (torch.full((1, 20, 6), torch.nan), "mel.*nan"),
    ):
        with pytest.raises(InputError, match=message):
            vocoder(mel)
    for arguments, message in (
        (([[0.5]],), "mel: expected a torch tensor, got list"),
        ((a_mel(1, 20, 6).numpy(),), "mel: expected a torch tensor, got ndarray"),
        ((a_mel(1, 20, 6), [6]), "lengths: expected a torch tensor, got list"),
        ((a_mel(1, 20, 6), None, 3), "generator: expected a torch.Generator, got int"),
        ((a_mel(1, 20, 6), None, None, 3), "seeds: expected a torch tensor, got int"),
    ):
        with pytest.raises(InputError, match=message):
            vocoder(*arguments)
    with pytest.raises(InputError, match="lengths: expected 1 integers"):
        vocoder(torch.rand(1, 20, 6), torch.tensor([3, 3]))


def test_arguments_are_checked_at_once(path: Path, tmp_path: Path) -> None:
    for config, message in (
        (replace(CONFIG, n_mels=0, upsample_strides=(), mel_kind=None), "model: expected a network that takes a mel"),
        (replace(CONFIG, prior=True), "model: this PriorGrad network does not say its energy_min"),
    ):
        save_checkpoint(tmp_path / "other.safetensors", Checkpoint(config, random_network(config, 0)))
        with pytest.raises(InputError, match=message):
            Vocoder(tmp_path / "other.safetensors")
    for extra in ({"steps": "many"}, {"schedule": (2.0,)}, {"seed": -1}):
        with pytest.raises(InputError, match=f"{next(iter(extra))}: "):
            Vocoder(path, **extra)  # type: ignore[arg-type]
    with pytest.raises(engine.CheckpointError, match="absent"):
        Vocoder(tmp_path / "absent.safetensors")


def test_without_pytorch_the_error_names_the_remedy() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\ntry: import engine.nn\nexcept ImportError as wrong: print(wrong)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "engine.nn: it needs PyTorch: pip install torch (the extra 'gpu')\n", run.stderr
