"""The figures of the README's first screen."""

from __future__ import annotations

from benchmarks.committed import (
    DIRECT_FP32,
    EAGER,
    MACHINES,
    Row,
    caveats,
    comparison,
    decibels,
    fastest_baseline,
    load,
    speed,
    steps_of,
)
from benchmarks.figures.machines import CASE
from benchmarks.figures.markdown import bullets, table

MACHINE = MACHINES["zen4"]
SECTION = "zen-4-avx-512-vnni-and-bf16"  # of MACHINE in docs/performance.md
CURVES = "epyc-zen4-2-cores-curves"
DRAFTS, REFINED = "drafts-zen4-2-cores", "{} on Griffin-Lim, matched to the mel"
GPU = "h100"
SHORT, LONG = 0.5, 600  # seconds of audio of which the memory is quoted
HOP, SAMPLE_BYTES, MIB = 256, 4, 2**20


def claims() -> str:
    """Return the claims of the first screen that have figures, as bullets."""
    return bullets([cpu_claim(), gpu_claim()])


def cpu_claim() -> str:
    """Return the CPU's speed beside the fastest baseline and PyTorch of the same run."""
    results = load(MACHINE.file)
    rows = comparison(results, CASE)
    baseline = fastest_baseline(rows)
    assert baseline is not None
    best = max((row for row in rows.values() if not row["peer"]), key=speed)
    refined = {row["name"]: row["times_real_time"] for row in load(DRAFTS)["drafts"]["rows"]}
    one, two = (refined[REFINED.format(steps)] for steps in ("one step", "two steps"))
    steps, name = steps_of(best, results), f"{baseline['contender']} ({decibels(baseline)} SNR)"
    return (
        f"**{one:.1f}x real time on two CPU cores** in one step that "
        f"[refines Griffin-Lim](docs/steps.md#refining-a-draft), {two:.1f}x in two ({MACHINE.name}, "
        f"{best['contender']}). In {steps} steps from noise {speed(best):.1f}x (another run, "
        f"{decibels(best)} SNR); the "
        f"[fastest other runtime](docs/performance.md), {name}, reaches {speed(baseline):.2f}x, "
        f"PyTorch {speed(rows[EAGER]):.2f}x."
    )


def gpu_claim() -> str:
    """Return the GPU's speed in fp16 beside the PyTorch baselines of the same run."""
    results = load(GPU)
    rows = {row["contender"]: row for row in results["gpu_duels"][0]["rows"]}
    engine = rows["this engine, fp16"]
    if engine.get("passed") is False:
        raise ValueError("this engine, fp16: no speed is reported because the accuracy gate is red")

    def ratio(name: str) -> str:
        return f"{rows[name]['measured_seconds']['p50'] / engine['measured_seconds']['p50']:.1f}"

    return (
        f"**{engine['times_real_time']:.0f}x real time on an H100** in {steps_of(engine, results)} steps "
        f"(fp16, an older version): {ratio('LMNT, PyTorch eager')} times "
        f"[LMNT's package as published](docs/gpu.md) (tf32), {ratio('LMNT, fp16 autocast')} times under fp16 autocast, "
        f"{ratio('PyTorch fp16, CUDA graph')} times PyTorch fp16 in a CUDA graph."
    )


def memory_claim() -> str:
    """Return the memory of a short and of a long call, to stand within a sentence."""
    points = {point["value"]: point for point in load(CURVES)["curves"] if point["axis"] == "length"}
    short, long = (f"{points[seconds]['memory_bytes'] / MIB:.0f} MiB" for seconds in (SHORT, LONG))
    audio = points[LONG]["frames"] * HOP * SAMPLE_BYTES / MIB
    return (
        f"half a second of audio takes [{short}](benchmarks/results/{CURVES}.json), ten minutes "
        f"take {long}, of which {audio:.0f} MiB are the audio itself."
    )


def readme_speed() -> str:
    """Return the README's table: this engine and the main runtimes on one machine."""
    results = load(MACHINE.file)
    rows = comparison(results, CASE)
    fastest = max((row for name, row in rows.items() if name.startswith("OpenVINO")), key=speed)
    entries = [
        *((f"**this engine, {precision}**", rows[precision]) for precision in ("int8", "bf16", "fp32")),
        ("PyTorch eager fp32 (LMNT's code)", rows[EAGER]),
        ("ONNX Runtime fp32", rows["ONNX Runtime fp32"]),
        (f"{fastest['contender']} (its fastest precision)", fastest),
    ]
    fp32 = f" {DIRECT_FP32.sentence}" if DIRECT_FP32 in caveats(results) else ""
    caption = (
        f"{CASE} of audio, two cores of {MACHINE.name}; the engines alternate.{fp32} SNR: against this engine's fp32. "
        f"[Conditions and caveats](docs/performance.md#{SECTION})."
    )
    head = ("engine", "steps", "x real time", "share of peak", "SNR")
    body = table(head, [(name, f"{steps_of(row, results)}", *_cells(row)) for name, row in entries])
    return "\n\n".join([body, caption])


def _cells(row: Row) -> tuple[str, ...]:
    return f"{speed(row):.2f}", f"{row['share_of_peak']['p50']:.0%}", decibels(row)
