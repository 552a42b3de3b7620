"""Stage `compare` of `make gpu`: this engine and PyTorch's ways to run LMNT's network, in turns.

`torch.compile` with max-autotune comes last, because it searches for minutes. What was found before it is written by
then, in the form of `pytest --benchmark -m gpu --results=FILE`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import report
from benchmarks.gpu import baselines, timing
from benchmarks.gpu.cases import Setting, cudnn_search, engine_entries, mels
from benchmarks.gpu.report import lines
from benchmarks.gpu.results import Results, say
from engine.cli.bench.machine import load_average

CELLS = ((1, 5.0), (1, 1.0), (1, 10.0))  # items, seconds of each; the pages quote the first
PRECISIONS = ("fp16", "fp32")  # the second is the reference of every SNR


def run(setting: Setting, out: Path, seconds: float, cells: Sequence[tuple[int, float]] = CELLS) -> bool:
    """Compare in every cell and write compare.json; return whether every entry of this engine passes its gate.

    Args:
        setting: the device.
        out: folder of the results.
        seconds: of the stage; rounds become fewer where they would take longer.
        cells: (items, seconds of each); `torch.compile` is timed in the first.
    """
    import torch

    results = Results(out / "compare.json", {**report.environment(load_average()), "gpu_name": setting.gpu()})
    if not setting.is_rehearsal:
        results.put("gpu_peaks", timing.peaks())
        say(f"peaks: {results.values['gpu_peaks']}")
    passed = True
    with torch.inference_mode(), cudnn_search():
        for number, cell in enumerate(cells):
            until = seconds * 0.6 * (number + 1) / len(cells)
            passed &= _compare(setting, results, cell, baselines.BASELINES[:4], PRECISIONS, until)
        passed &= _compare(setting, results, cells[0], [baselines.AUTOTUNED], PRECISIONS, seconds)
    return passed


def _compare(
    setting: Setting,
    results: Results,
    cell: tuple[int, float],
    others: Sequence[baselines.Baseline],
    precisions: Sequence[str],
    until: float,
) -> bool:
    """Compare in one cell; the results of every round are written, and a failure is one of them."""
    items, seconds = cell
    voice = setting.voice("fp16")
    mel = mels(items, seconds, voice, setting.device)
    entries, floors = engine_entries(mel, precisions, setting)
    timed = [timing.first_call(entry) for entry in entries]
    task = baselines.Task(setting.checkpoint(), mel.cpu().numpy(), 1, setting.device)
    for result, baseline in _built(task, others, results):
        timed.append(result)
        floors[result.entry.name] = timing.BASELINE_SNR[baseline.precision]
    audio_seconds = items * mel.shape[2] * voice.hop / voice.sample_rate
    duels = results.values.setdefault("gpu_duels", [])
    duel: dict[str, Any] = {"items": items, "seconds": seconds, "commit": results.values["commit"]}
    duels.append(duel)
    for number in range(1, setting.rounds + 1):
        timing.run_round(timed, setting.warm_up, setting.clock)
        try:
            duel.update(rounds=number, rows=timing.comparison_rows(timed, audio_seconds, floors))
        except AssertionError as error:
            duel.update(rounds=number, failure=str(error))
        results.put("gpu_duels", duels)
        if "failure" in duel or results.elapsed() > until:
            break
    if "failure" in duel:
        say(f"{items} x {seconds:g} s: {duel['failure']}")
        return False
    rows = timing.Rows()
    rows.comparisons.append(duel)
    say("\n".join(lines(rows)[1:]))
    return True


def _built(
    task: baselines.Task, others: Sequence[baselines.Baseline], results: Results
) -> Iterator[tuple[timing.Timed, baselines.Baseline]]:
    """Yield the baselines that run here; those that do not are recorded with the reason."""
    for baseline in others:
        for candidate in (baseline, baselines.WITHOUT_THE_PACKAGE.get(baseline.name)):
            if candidate is None:
                continue
            try:
                entry = timing.Entry(candidate.name, candidate.conditioner, candidate.build(task))
                yield timing.first_call(entry), candidate
                break
            except Exception as error:  # of a baseline: out of memory, a compiler that is missing, a package
                reason = f"{type(error).__name__}: {error}"[:300]
                results.put("absent", {**results.values.get("absent", {}), candidate.name: reason})
                say(f"absent: {candidate.name}: {reason}")


def main() -> None:
    """Run the stage."""
    parser = argparse.ArgumentParser(description="compare this engine with PyTorch on a GPU, in turns")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=160.0)
    parser.add_argument("--rehearse", action="store_true", help="a small network on a CPU")
    arguments = parser.parse_args()
    if arguments.rehearse:
        passed = run(Setting("cpu", 2, 1), arguments.out, arguments.seconds, [(1, 0.1)])
    else:
        passed = run(Setting(), arguments.out, arguments.seconds)
    raise SystemExit(0 if passed else 1)


if __name__ == "__main__":
    main()
