"""Choosing a backend: device, instruction set, precision, and the reasons."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.cli.bench.machine import environment
from engine.config import BASE
from engine.errors import InputError, UnavailableError
from engine.kernels import cpu, registry
from engine.kernels import device as gpu_device
from tests.support.networks import SMALL, random_network
from tests.support.targets import targets

NAMES = {"generic": "any processor", "avx2": "AVX2", "avx512": "AVX-512", "avx512bf16": "AVX-512 with BF16"}


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that simulates a processor with the given fastest tier."""

    def pretend(fastest: str) -> None:
        last = list(NAMES).index(fastest)
        tiers = [
            (name, i <= last, requires, ["fp32", "bf16", "int8"] if name == "avx512bf16" else ["fp32", "int8"])
            for i, (name, requires) in enumerate(NAMES.items())
        ]
        monkeypatch.setattr(cpu, "tiers", lambda: tiers)
        monkeypatch.setattr(gpu_device, "obstacle", lambda index: "none here")

    return pretend


@pytest.mark.parametrize(
    ("fastest", "options", "isa", "precision"),
    [
        ("generic", {}, "generic", "fp32"),
        ("avx2", {}, "avx2", "fp32"),
        ("avx512", {"device": "cpu"}, "avx512", "fp32"),
        ("avx512bf16", {}, "avx512bf16", "bf16"),
        ("avx512bf16", {"precision": "fp32"}, "avx512bf16", "fp32"),
        ("avx512bf16", {"precision": "bf16"}, "avx512bf16", "bf16"),
        ("avx512bf16", {"isa": "avx2"}, "avx2", "fp32"),
        ("avx512bf16", {"isa": "avx512bf16"}, "avx512bf16", "bf16"),
        ("avx512bf16", {"isa": "avx512bf16", "precision": "fp32"}, "avx512bf16", "fp32"),
        ("avx2", {"isa": "generic", "precision": "fp32"}, "generic", "fp32"),
        ("generic", {"calibrated": True}, "generic", "fp32"),
        ("avx2", {"calibrated": True}, "avx2", "int8"),
        ("avx2", {"calibrated": True, "precision": "fp32"}, "avx2", "fp32"),
        ("avx2", {"calibrated": True, "precision": "int8"}, "avx2", "int8"),
        ("avx512", {"calibrated": True}, "avx512", "fp32"),
        ("avx512bf16", {"calibrated": True}, "avx512bf16", "int8"),
        ("avx512bf16", {"calibrated": True, "precision": "bf16"}, "avx512bf16", "bf16"),
        ("avx512bf16", {"calibrated": True, "isa": "avx2"}, "avx2", "int8"),
    ],
)
def test_select_takes_the_fastest_matching_tier(
    processor: Any, fastest: str, options: dict[str, str], isa: str, precision: str
) -> None:
    processor(fastest)
    choice = registry.select(**options)
    assert (choice.device, choice.isa, choice.precision) == ("cpu", isa, precision)
    assert [reason.partition(":")[0] for reason in choice.reasons] == [
        "device cpu",
        f"isa {isa}",
        f"precision {precision}",
    ]


@pytest.mark.parametrize("tier", ["avx2", "avxvnni", "avx512vnni", "avx512bf16", "dotprod"])
def test_int8_is_the_default_of_calibrated_networks_where_it_is_fastest(
    monkeypatch: pytest.MonkeyPatch, tier: str
) -> None:
    have = [(name, True, "a processor", ["fp32", "int8"]) for name in ("generic", tier)]
    monkeypatch.setattr(cpu, "tiers", lambda: have)
    monkeypatch.setattr(gpu_device, "obstacle", lambda index: "none here")
    assert registry.select(calibrated=True).precision == "int8"
    assert registry.select().precision == "fp32"


def test_tile_registers_run_by_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    have = [("avx512bf16", True, "AVX-512 with BF16", ["fp32", "bf16", "int8"]), ("amx", True, "AMX", ["bf16", "int8"])]
    monkeypatch.setattr(cpu, "tiers", lambda: have)
    monkeypatch.setattr(gpu_device, "obstacle", lambda index: "none here")
    for precision in ("auto", "bf16", "int8", "fp32"):
        choice = registry.select(precision=precision, calibrated=True)
        assert choice.isa == "avx512bf16" and "isa='amx' selects its tile registers" in choice.reasons[1]
    assert environment([])["machine"]["tiers"] == ["avx512bf16"]
    requested = registry.select(isa="amx")
    assert (requested.isa, requested.precision) == ("amx", "bf16") and registry.settle(requested, BASE) == requested
    with pytest.raises(
        UnavailableError, match="isa: 'amx' needs a multiple of 64 residual channels, got a network with 48"
    ):
        registry.settle(requested, replace(BASE, residual_channels=48))
    with pytest.raises(UnavailableError, match=r"got isa='amx'; use precision='auto'$"):
        registry.select(isa="amx", precision="fp32")


@pytest.mark.parametrize(
    ("fastest", "options", "reasons"),
    [
        (
            "avx2",
            {},
            (
                "device cpu: no GPU: none here",
                "isa avx2: the fastest tier with fp32; not on this processor: "
                "avx512 (AVX-512), avx512bf16 (AVX-512 with BF16)",
                "precision fp32: the fastest for this tier and network",
            ),
        ),
        (
            "avx512bf16",
            {"device": "cpu", "isa": "avx2"},
            ("device cpu: requested", "isa avx2: requested", "precision fp32: the fastest for this tier and network"),
        ),
        (
            "avx512bf16",
            {"precision": "bf16"},
            (
                "device cpu: no GPU: none here",
                "isa avx512bf16: the fastest tier with bf16",
                "precision bf16: requested",
            ),
        ),
    ],
)
def test_reasons(processor: Any, fastest: str, options: dict[str, str], reasons: tuple[str, ...]) -> None:
    processor(fastest)
    assert registry.select(**options).reasons == reasons


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "cuda"}, "device: 'cuda' cannot be used: none here; device='cpu' can"),
        ({"isa": "sm_90a"}, "isa: 'sm_90a' needs a GPU: none here; leave isa out"),
        ({"device": "cuda:7"}, "device: 'cuda:7' cannot be used: none here; device='cpu' can"),
        ({"device": "tpu"}, "device: this build has no backend for 'tpu'; expected 'auto', 'cpu', 'cuda' or 'cuda:1'"),
        ({"device": "cpu:1"}, "device: this build has no backend for 'cpu:1'"),
        ({"device": 0}, "device: this build has no backend for 0"),
        ({"precision": "fp16"}, "precision: 'fp16' needs a GPU: none here; use precision='auto' or 'fp32'"),
        ({"precision": "tf32", "device": "cpu"}, "precision: 'tf32' needs a GPU: the CPU was requested"),
        (
            {"precision": "int8"},
            "precision: 'int8' needs ranges, .*engine convert CKPT -o OUT.safetensors --calibrate MEL",
        ),
        ({"isa": "avx512"}, "isa: 'avx512' needs AVX-512, which this processor does not have"),
        ({"isa": "avx512bf16", "precision": "bf16"}, "isa: 'avx512bf16' needs AVX-512 with BF16, which this processor"),
        (
            {"precision": "bf16"},
            r"precision: 'bf16' needs a tier that has it \('avx512bf16'\), "
            "got a processor with 'generic', 'avx2'; use precision='auto' or 'fp32'",
        ),
        ({"precision": "bf16", "isa": "avx2"}, "precision: 'bf16' needs a tier that has it .*, got isa='avx2'"),
    ],
)
def test_unavailable_choices_raise_an_error_with_the_reason(
    processor: Any, options: dict[str, str], message: str
) -> None:
    processor("avx2")
    with pytest.raises(UnavailableError, match=message):
        registry.select(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int3"}, "precision: expected 'auto' or 'int8', 'fp16', 'bf16', 'tf32', 'fp32', got 'int3'"),
        (
            {"device": "cuda", "isa": "avx2"},
            "isa: expected None or 'mma', 'sm_90a' with device='cuda', got 'avx2'; a GPU",
        ),
        ({"precision": None}, "precision: expected .*, got None"),
        ({"isa": "sse9"}, "isa: expected one of 'generic', 'avx2', 'avx512', 'avx512bf16', got 'sse9'"),
        ({"isa": ["avx2"]}, r"isa: expected one of .*, got \['avx2'\]"),
        ({"isa": ""}, "isa: expected one of .*, got ''"),
    ],
)
def test_unknown_names_raise_an_error(processor: Any, options: dict[str, Any], message: str) -> None:
    processor("avx512bf16")
    with pytest.raises(InputError, match=message):
        registry.select(**options)


def test_every_supported_tier_can_be_selected() -> None:
    tiers = cpu.tiers()
    assert tiers[0][:2] == ("generic", True)
    assert len({name for name, *_ in tiers}) == len(tiers)
    for name, supported, requires, precisions in tiers:
        assert requires and set(precisions) <= set(registry.PRECISIONS)
        for precision in precisions:
            if supported:
                assert registry.select(isa=name, precision=precision, calibrated=True).isa == name
            else:
                with pytest.raises(UnavailableError, match=f"isa: '{name}' needs {requires}"):
                    registry.select(isa=name, precision=precision, calibrated=True)


@pytest.mark.parametrize(("tier", "flag"), [("avx2", "avx2"), ("avxvnni", "avx_vnni"), ("dotprod", "asimddp")])
def test_tiers_match_the_flags_of_the_operating_system(tier: str, flag: str) -> None:
    cpuinfo = Path("/proc/cpuinfo")
    supported = {name: is_supported for name, is_supported, *_ in cpu.tiers()}
    if tier not in supported or not cpuinfo.is_file():
        pytest.skip(f"no tier {tier} in this build, or no {cpuinfo}")
    assert supported[tier] == (flag in cpuinfo.read_text().split())


@pytest.mark.parametrize(("isa", "precision"), targets())
def test_build_packs_the_chosen_network(isa: str, precision: str) -> None:
    network = registry.build(SMALL, random_network(SMALL, 1), registry.select(isa=isa, precision=precision))
    assert isinstance(network, cpu.CpuNetwork) and network.config is SMALL
    assert type(network._native).__name__ == f"Network_{precision}"


@pytest.fixture
def one_gpu(processor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a machine with one GPU."""
    processor("avx512bf16")
    monkeypatch.setattr(gpu_device, "obstacle", lambda index: f"there are 1 GPUs, not {index}" if index else None)
    monkeypatch.setattr(gpu_device, "describe", lambda index: "a GPU")
    monkeypatch.setattr(gpu_device, "isa", lambda index: "sm_90")


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({}, ("cuda", "sm_90", "fp16")),
        ({"device": "cuda"}, ("cuda", "sm_90", "fp16")),
        ({"device": "cuda:0", "precision": "fp32"}, ("cuda", "sm_90", "fp32")),
        ({"precision": "bf16"}, ("cuda", "sm_90", "bf16")),
        ({"device": "cpu"}, ("cpu", "avx512bf16", "bf16")),
        ({"isa": "avx2"}, ("cpu", "avx2", "fp32")),
        ({"calibrated": True}, ("cuda", "sm_90", "fp16")),
        ({"precision": "int8", "calibrated": True}, ("cpu", "avx512bf16", "int8")),
    ],
)
@pytest.mark.usefixtures("one_gpu")
def test_a_gpu_is_preferred(options: dict[str, str], chosen: tuple[str, str, str]) -> None:
    choice = registry.select(**options)
    assert (choice.device, choice.isa, choice.precision) == chosen
    assert choice.reasons[0].startswith(f"device {chosen[0]}") and len(choice.reasons) == 3


@pytest.mark.usefixtures("one_gpu")
def test_int8_on_a_gpu_raises_an_error() -> None:
    with pytest.raises(UnavailableError, match="precision: 'int8' needs a CPU; expected 'auto' or 'fp16'"):
        registry.select("cuda", "int8", calibrated=True)


@pytest.mark.usefixtures("one_gpu")
def test_a_gpu_number_out_of_range_raises_an_error() -> None:
    with pytest.raises(UnavailableError, match="device: 'cuda:1' cannot be used: there are 1 GPUs, not 1"):
        registry.select("cuda:1")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, None),
        ({"driver": False}, "no NVIDIA driver was found (libcuda.so.1)"),
        ({"packages": {"torch"}}, "triton is not installed: pip install -e '.[gpu]' in the source folder"),
        ({"packages": {"triton"}}, "torch is not installed: pip install -e '.[gpu]' in the source folder"),
        ({"cuda": None}, "PyTorch 9.9 was built without CUDA: install a CUDA build of it"),
        ({"available": False}, "PyTorch finds no usable GPU: see torch.cuda.is_available() and nvidia-smi"),
        ({"count": 0}, "there are 0 GPUs, numbered from 0"),
        ({"capability": (7, 5)}, "a card has compute capability 7.5, the kernels need 8"),
    ],
)
def test_obstacle_names_the_reason_and_a_remedy(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str | None
) -> None:
    machine = {"driver": True, "packages": {"torch", "triton"}, "cuda": "13.0", "available": True, "count": 1}
    machine |= {"capability": (8, 0), **changes}
    torch = SimpleNamespace(
        __version__="9.9",
        version=SimpleNamespace(cuda=machine["cuda"]),
        cuda=SimpleNamespace(
            is_available=lambda: machine["available"],
            device_count=lambda: machine["count"],
            get_device_capability=lambda index: machine["capability"],
            get_device_name=lambda index: "a card",
        ),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(gpu_device, "_driver_found", lambda: machine["driver"])
    monkeypatch.setattr(
        gpu_device.importlib.util, "find_spec", lambda name: name if name in machine["packages"] else None
    )
    assert gpu_device.obstacle() == message


def test_neither_torch_nor_triton_is_imported_without_a_driver() -> None:
    code = (
        "import sys; from engine.kernels import device; device._DRIVERS = ('no-such-library.so',); "
        "assert 'no NVIDIA driver' in device.obstacle(); print({'torch', 'triton'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
