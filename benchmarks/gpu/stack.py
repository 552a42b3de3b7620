"""Stage `stack` of `make gpu`: how wgmma reads shifted operands, and every instruction set by length of the audio.

After them, calls that refine a draft, or match the audio to its mel, beside six steps from noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.cpu import drafts
from benchmarks.gpu import timing, wgmma_probe
from benchmarks.gpu.cases import SPEECH, Setting, mels
from benchmarks.gpu.results import Results, say
from engine.audio.metrics import snr
from engine.checkpoint.bundled import BUNDLED
from engine.cli.bench.figures import quantiles
from engine.cli.bench.machine import load_average
from engine.kernels import device as gpu_device
from engine.kernels.hopper import stack as hopper
from tests.support.tolerances import TOLERANCES

CELLS = ((1, 1.0), (1, 2.0), (1, 5.0), (1, 10.0), (16, 5.0))
DRAFTS, DRAFT_SECONDS = (1.0, 5.0, 10.0), 8.0  # seconds of audio, and of the measurement together


def run(setting: Setting, out: Path, seconds: float, cells: Sequence[tuple[int, float]] = CELLS) -> bool:
    """Run the probe, then time every instruction set in turns; write stack.json after every figure.

    Args:
        setting: the device.
        out: folder of the results.
        seconds: of the stage; rounds become fewer where they would take longer.
        cells: (items, seconds of each).

    Returns:
        Whether the audio of every instruction set passes its gate.
    """
    results = Results(out / "stack.json", {**report.environment(load_average()), "gpu_name": setting.gpu()})
    probe(setting, results)
    voices = {}
    passed = True
    for isa in (None, *setting.isas()):
        name = isa or "default"
        try:
            voice = setting.voice("fp16", isa)
            db = gate(setting, voice)
        except Exception as error:  # of this instruction set; the others are still timed
            results.add("failures", {"isa": name, "error": f"{type(error).__name__}: {error}"[:500]})
            say(f"{name}: {results.values['failures'][-1]['error']}")
            passed = False
            continue
        results.add("accuracy", {"isa": name, "snr_db": db, "explain": voice.explain().splitlines()})
        say(f"{name}: {db:.1f} dB against the CPU")
        if not setting.is_rehearsal and db < TOLERANCES["gpu_audio_fp16_db"]:
            passed = False
        voices[name] = voice
    until = seconds - DRAFT_SECONDS
    for number, cell in enumerate(cells):
        _time(setting, results, voices, cell, results.elapsed() + (until - results.elapsed()) / (len(cells) - number))
    if voices:
        _time_drafts(setting, results, next(iter(voices.values())))
    return passed


def probe(setting: Setting, results: Results) -> None:
    """Record what wgmma reads and how fast; on other GPUs and in a rehearsal, that the probe compiles."""
    try:
        sizes = [len(wgmma_probe.probe_kernel(n).compile(hopper.CAPABILITY).asm["cubin"]) for n in (1, 2)]
        results.put("probe_compiled_bytes", sizes)
        if setting.is_rehearsal or gpu_device.isa() != f"sm_{hopper.CAPABILITY}":
            say("probe: compiled; it runs on compute capability 9.0 alone")
            return

        def report_case(row: dict[str, Any]) -> None:
            results.add("probe", row)
            verdict = "right" if row["right"] else "WRONG"
            say(
                f"probe: {row['layout']}, shift {row['shift']:2}, {row['warpgroups']} warpgroups: {verdict}, "
                f"{row['clocks']:.1f} clocks a wgmma (best {row['ideal_clocks']:.0f})"
            )

        wgmma_probe.run(report_case)
    except Exception as error:  # NVRTC or the driver; the rest of the stage does not need them
        results.put("probe_failure", f"{type(error).__name__}: {error}"[:500])
        say(f"probe: {results.values['probe_failure']}")


def gate(setting: Setting, voice: Any) -> float:
    """Return the SNR of a voice against the CPU in fp32, in dB."""
    mel = np.load(BUNDLED.with_name("demo_mel.npy"))[:, SPEECH : SPEECH + 100]
    expected = Setting("cpu").voice("fp32") if setting.is_rehearsal else _cpu()
    return float(snr(expected.vocode(mel, seed=1), voice.vocode(mel, seed=1)))


def _cpu() -> Any:
    import engine

    return engine.load(device="cpu", precision="fp32")


def _time(setting: Setting, results: Results, voices: dict[str, Any], cell: tuple[int, float], until: float) -> None:
    """Time whole calls of all voices in turns: on the device, and on the host until the call returns."""
    items, seconds = cell
    if not voices:
        return
    first = next(iter(voices.values()))
    mel = mels(items, seconds, first, setting.device)
    calls = {name: (lambda voice=voice: voice.vocode(mel, seed=1)) for name, voice in voices.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    host: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(setting.rounds):
        for name, call in calls.items():
            times[name] += setting.clock(call, setting.warm_up if number == 0 else 1, 1)
            host[name] += timing.host_seconds(call, 0, 1)
        if number >= 2 and results.elapsed() > until:
            break
    audio_seconds = items * mel.shape[2] * first.hop / first.sample_rate
    for name in calls:
        row = timing.row(setting.gpu(), "fp16", items, seconds, audio_seconds, times[name])
        results.add("calls", {**row, "isa": name, "host_seconds": quantiles(host[name]), "rounds": len(times[name])})
        milliseconds, on_host = 1e3 * row["measured_seconds"]["p50"], 1e3 * quantiles(host[name])["p50"]
        say(f"{items} x {seconds:g} s, {name}: {milliseconds:.3f} ms, {on_host:.3f} ms until the call returns")


def _time_drafts(setting: Setting, results: Results, voice: Any) -> None:
    """Time calls with drafts and matching in turns with six steps, on the host until their work is done."""
    lengths = DRAFTS[:1] if setting.is_rehearsal else DRAFTS
    for seconds in lengths:
        rows = drafts.measure(voice, mels(1, seconds, voice, setting.device)[0], setting.rounds, setting.wait)
        results.add("drafts", {"seconds": seconds, "rows": rows})
        for row in rows:
            say(f"{seconds:g} s, {row['name']}: {1e3 * row['seconds']:.3f} ms, {row['times_six']:.2f} times six steps")


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description="probe wgmma, and time every instruction set of this GPU by length")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--rehearse", action="store_true", help="a small network on a CPU")
    arguments = parser.parse_args()
    if arguments.rehearse:
        passed = run(Setting("cpu", 2, 1), arguments.out, arguments.seconds, [(1, 0.1), (2, 0.1)])
    else:
        passed = run(Setting(), arguments.out, arguments.seconds)
    raise SystemExit(0 if passed else 1)


if __name__ == "__main__":
    main()
