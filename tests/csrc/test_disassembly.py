"""The inner loops as the compiler left them: no accumulator in memory, nothing but broadcasts, loads and dot products.

A compiler that spills accumulators halves the speed, and no other test would notice.
"""

import platform
import re
import shutil
import subprocess
from functools import cache

import pytest

from engine.kernels import _native, cpu
from tests.arm.proxy import build, needs_tools

# bf16 and products of bytes; fp32 and products of words; the conditioner
OPERATIONS = ("::residual_block_of", "::paired_block_of", "project_conditioner<")
MULTIPLY_ADDS = [
    ("avx2", "vfmadd", 12),
    ("avx2", "vpmaddwd", 12),
    ("avxvnni", "vfmadd", 12),
    ("avxvnni", "vpdpbusd", 12),
    ("avx512", "vfmadd", 24),
    ("avx512vnni", "vfmadd", 24),
    ("avx512vnni", "vpdpbusd", 24),
    ("avx512bf16", "vdpbf16ps", 24),
    ("avx512bf16", "vpdpbusd", 24),
]


def functions(text):
    """{name: [(address, instruction)]}"""
    found, current = {}, None
    for line in text.splitlines():
        if head := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            current = found.setdefault(head[1], [])
        elif current is not None and (body := re.match(r"\s+([0-9a-f]+):\s+(.*)", line)):
            current.append((int(body[1], 16), body[2]))
    return found


def innermost_loops(instructions):
    """The bodies of loops that hold no other loop."""
    index = {address: i for i, (address, _) in enumerate(instructions)}
    spans = []
    for i, (_, text) in enumerate(instructions):
        jump = re.match(r"(?:j\w+|b(?:\.\w+)?|[ct]bn?z)\s+(?:.*, )?([0-9a-f]+) <", text)
        if jump and index.get(int(jump[1], 16), i + 1) <= i:
            spans.append((index[int(jump[1], 16)], i))
    for low, high in spans:
        if not any(other != (low, high) and low <= other[0] and other[1] <= high for other in spans):
            yield [text for _, text in instructions[low : high + 1]]


@cache
def disassembled(objdump, binary):
    command = [objdump, "-dC", "--no-show-raw-insn", binary]
    return functions(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.fixture(scope="module")
def disassembly():
    if platform.machine() != "x86_64":
        pytest.skip(f"reads x86-64 instructions, this is {platform.machine()}")
    if shutil.which("objdump") is None:
        pytest.skip("objdump (binutils) is not installed")
    return disassembled("objdump", _native.__file__)


def multiply_add_loops(disassembly, tier, instruction, count):
    """Those of the operations, each with whole register tiles of multiply-adds."""
    found = {
        operation: [
            loop
            for name, instructions in disassembly.items()
            if f"diffwave::{tier}::" in name and operation in name
            for loop in innermost_loops(instructions)
            if sum(instruction in text for text in loop) >= count // 2
        ]
        for operation in OPERATIONS
    }
    # Three taps, or as many products with them, and the projection of a residual block.
    block = "::paired_block_of" if instruction in ("vfmadd", "fmla", "vpmaddwd") else "::residual_block_of"
    assert len(found[block]) >= 4
    loops = [loop for those in found.values() for loop in those]
    assert all(sum(instruction in text for text in loop) % count == 0 for loop in loops)
    return loops


@pytest.mark.parametrize(("tier", "instruction", "count"), MULTIPLY_ADDS)
def test_inner_loops_keep_their_accumulators_in_registers(disassembly, tier, instruction, count):
    if tier not in [name for name, *_ in cpu.tiers()]:
        pytest.skip(f"this compiler is too old for the tier {tier}")
    for loop in multiply_add_loops(disassembly, tier, instruction, count):
        spills = [text for text in loop if re.search(r"[yz]mm\d", text) and re.search(r"\(%r[sb]p", text)]
        assert not spills, f"{tier}: vectors on the stack in an inner loop: {spills}"


# A product of bytes without an instruction for it: two of words.
IN_PEAKS = [*MULTIPLY_ADDS, ("avx512", "vpmaddwd", 48)]


def check_peak(disassembly, tier, instruction, count):
    """One of the tier's peaks counts so many of them a round."""
    loops = [
        loop
        for name, instructions in disassembly.items()
        if f"diffwave::{tier}::" in name and "::peak<" in name
        for loop in innermost_loops(instructions)
    ]
    assert count in [sum(instruction in text for text in loop) for loop in loops]


@pytest.mark.parametrize(("tier", "instruction", "count"), IN_PEAKS)
def test_the_peak_makes_every_product_that_it_counts(disassembly, tier, instruction, count):
    """Not once before the loop, where a product of bytes takes several instructions: a share would look small."""
    if tier not in [name for name, *_ in cpu.tiers()]:
        pytest.skip(f"this compiler is too old for the tier {tier}")
    check_peak(disassembly, tier, instruction, count)


@pytest.mark.arm
@needs_tools
@pytest.mark.parametrize(
    ("tier", "instruction", "count"), [("neon", "smull", 96), ("dotprod", "sdot", 24), ("neon", "fmla", 24)]
)
def test_the_peak_of_arm_makes_every_product_that_it_counts(tier, instruction, count):
    check_peak(disassembled("aarch64-linux-gnu-objdump", build()), tier, instruction, count)


@pytest.mark.arm
@needs_tools
@pytest.mark.parametrize(("tier", "instruction"), [("neon", "fmla"), ("dotprod", "fmla"), ("dotprod", "sdot")])
def test_arm_inner_loops_never_touch_the_stack(tier, instruction):
    for loop in multiply_add_loops(disassembled("aarch64-linux-gnu-objdump", build()), tier, instruction, 24):
        assert not [text for text in loop if "[sp" in text]
        assert len([text for text in loop if text.startswith("ld")]) == 13, "12 rows' inputs and a pair of weights"


def test_what_runs_on_every_processor_uses_no_tiers_instructions(disassembly):
    """Tiers are listed before it is known which of them the processor has."""
    asked = [
        name for name in disassembly if re.fullmatch(r"diffwave::\w+::(fp32|bf16)\(\)|diffwave::tiers\(\).*", name)
    ]
    assert len(asked) >= 5
    for name in asked:
        assert not [text for _, text in disassembly[name] if text.startswith("v")], name
