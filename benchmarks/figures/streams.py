"""The cost of streaming, and its latency."""

from __future__ import annotations

from statistics import median

from benchmarks.committed import Results, caveats, load, steps_of
from benchmarks.figures.markdown import table

STREAMS = "streams-zen3-2-cores"
WORDS = {
    "stream, whole mel": "stream of the whole mel",
    "stream, pieces of 1": "stream, one frame at a time",
    "stream, pieces of 16": "stream, 16 frames at a time",
}


def overhead() -> str:
    """Return the time of streams relative to one call of `vocode`."""
    results = load(STREAMS)
    [run] = [run for run in results["streams"] if "rows" in run]
    ratios = {row["contender"]: row["times_vocode"]["p50"] for row in run["rows"]}
    rows = [(words, f"{steps_of(run, results)}", f"{ratios[name]:.2f}") for name, words in WORDS.items()]
    rounds = run["rows"][0]["rounds"]
    words = f"{run['title']}; alternating, medians of {rounds} rounds"
    return _with_caption(table(("", "steps", "time relative to `vocode`"), rows), words, results)


def first_audio() -> str:
    """Return the latency of a stream whose mel arrives at the speed of speech."""
    results = load(STREAMS)
    runs = [run for run in results["streams"] if run.get("source") == "paced"]
    rows = [
        (
            run["steps"].removesuffix(" steps"),
            f"{run['first_audio_ms'] / 1000:.2f} s",
            f"{run['underruns']}",
            f"{run['waited_ms'] / 1000:.1f} s",
            f"{run['vocode_ms'] / 1000:.1f} s",
        )
        for run in runs
    ]
    head = ("steps", "first audio", "underruns", "total waiting time", "one call of `vocode`")
    words = (
        f"{runs[0]['audio_seconds']:.2f} s of audio, {runs[0]['precision']}, {runs[0]['threads']} threads; each row is "
        "one stream, after one call of `vocode` without warm-up"
    )
    return _with_caption(table(head, rows, align=""), words, results)


def cancelling() -> str:
    """Return the time from setting the event to `Cancelled`."""
    results = load(STREAMS)
    runs = [run for run in results["streams"] if "cancelled_ms" in run]
    rows = [
        (
            f"{run['threads']}",
            f"{steps_of(run, results)}",
            f"{median(run['cancelled_ms']):.0f} ms",
            f"{max(run['cancelled_ms']):.0f} ms",
        )
        for run in runs
    ]
    words = f"BASE, fp32, cancelled {len(runs[0]['cancelled_ms'])} times per row"
    return _with_caption(table(("threads", "steps", "median", "longest"), rows, align=""), words, results)


def _with_caption(body: str, words: str, results: Results) -> str:
    caption = (
        f"{words}. {results['machine']['cpu']} (Zen 3), {results['date'][:10]}, commit {results['commit']} "
        f"([results](benchmarks/results/{STREAMS}.json))."
    )
    return f"{body}\n\n" + " ".join([caption, *(c.sentence for c in caveats(results, baselines=False))])
