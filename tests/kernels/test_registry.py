from __future__ import annotations

from typing import Any

import pytest
from networks import SMALL, random_network
from targets import targets

from engine.errors import InputError, UnavailableError
from engine.kernels import cpu, registry

NAMES = {"generic": "any processor", "avx2": "AVX2", "avx512": "AVX-512", "avx512bf16": "AVX-512 with BF16"}


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend to be a processor whose fastest tier is this one."""

    def pretend(fastest: str) -> None:
        last = list(NAMES).index(fastest)
        tiers = [
            (name, i <= last, requires, ["fp32", "bf16"] if name == "avx512bf16" else ["fp32"])
            for i, (name, requires) in enumerate(NAMES.items())
        ]
        monkeypatch.setattr(cpu, "tiers", lambda: tiers)

    return pretend


@pytest.mark.parametrize(
    ("fastest", "asked", "isa", "precision"),
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
    ],
)
def test_the_fastest_that_was_asked_for(
    processor: Any, fastest: str, asked: dict[str, str], isa: str, precision: str
) -> None:
    processor(fastest)
    choice = registry.select(**asked)
    assert (choice.device, choice.isa, choice.precision) == ("cpu", isa, precision)
    assert [reason.partition(":")[0] for reason in choice.reasons] == [
        "device cpu",
        f"isa {isa}",
        f"precision {precision}",
    ]


@pytest.mark.parametrize(
    ("fastest", "asked", "reasons"),
    [
        (
            "avx2",
            {},
            (
                "device cpu: the only backend of this build",
                "isa avx2: the fastest tier with fp32; not on this processor: "
                "avx512 (AVX-512), avx512bf16 (AVX-512 with BF16)",
                "precision fp32: the fastest that this tier has",
            ),
        ),
        (
            "avx512bf16",
            {"device": "cpu", "isa": "avx2"},
            ("device cpu: asked for", "isa avx2: asked for", "precision fp32: all that this tier has"),
        ),
        (
            "avx512bf16",
            {"precision": "bf16"},
            (
                "device cpu: the only backend of this build",
                "isa avx512bf16: the fastest tier with bf16",
                "precision bf16: asked for",
            ),
        ),
    ],
)
def test_reasons(processor: Any, fastest: str, asked: dict[str, str], reasons: tuple[str, ...]) -> None:
    processor(fastest)
    assert registry.select(**asked).reasons == reasons


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"device": "cuda"}, "device: this build has no backend for 'cuda'; expected 'auto' or 'cpu'"),
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
def test_what_is_not_here_is_refused_with_the_reason(processor: Any, asked: dict[str, str], message: str) -> None:
    processor("avx2")
    with pytest.raises(UnavailableError, match=message):
        registry.select(**asked)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"precision": "fp16"}, "precision: expected 'auto' or 'bf16', 'fp32', got 'fp16'"),
        ({"precision": None}, "precision: expected .*, got None"),
        ({"isa": "sse9"}, "isa: expected one of 'generic', 'avx2', 'avx512', 'avx512bf16', got 'sse9'"),
        ({"isa": ["avx2"]}, r"isa: expected one of .*, got \['avx2'\]"),
        ({"isa": ""}, "isa: expected one of .*, got ''"),
    ],
)
def test_unknown_names_are_refused(processor: Any, asked: dict[str, Any], message: str) -> None:
    processor("avx512bf16")
    with pytest.raises(InputError, match=message):
        registry.select(**asked)


def test_every_tier_of_this_machine_can_be_forced() -> None:
    tiers = cpu.tiers()
    assert tiers[0][:2] == ("generic", True)
    assert len({name for name, *_ in tiers}) == len(tiers)
    for name, supported, requires, precisions in tiers:
        assert requires and set(precisions) <= set(registry.PRECISIONS)
        for precision in precisions:
            if supported:
                assert registry.select(isa=name, precision=precision).isa == name
            else:
                with pytest.raises(UnavailableError, match=f"isa: '{name}' needs {requires}"):
                    registry.select(isa=name, precision=precision)


@pytest.mark.parametrize(("isa", "precision"), targets())
def test_build_packs_for_the_choice(isa: str, precision: str) -> None:
    network = registry.build(SMALL, random_network(SMALL, 1), registry.select(isa=isa, precision=precision))
    assert isinstance(network, cpu.CpuNetwork) and network.config is SMALL
    assert type(network._native).__name__ == f"Network_{precision}"
