"""The service under load, beside Piper's HTTP server, as docs/serving.md shows it."""

from __future__ import annotations

from benchmarks.committed import load
from benchmarks.figures.markdown import table

FILE = "serving-zen4-2-cores"
NAMES = {"engine": "engine serve", "piper": "Piper's server"}


def latencies() -> str:
    """Return the latencies by the number of clients, and what an overload lost."""
    results = load(FILE)
    run, machine = results["serving"], results["machine"]
    rows = [
        (
            str(row["clients"]),
            NAMES[row["server"]],
            *(f"{row[what][which]:.2f} s" for what in ("first_audio", "total") for which in ("median", "longest")),
            f"{row['requests_per_second'] * seconds_of(run, row['server']):.2f}",
        )
        for row in run["rows"]
    ]
    head = ("clients", "server", "first audio, median", "longest", "end, median", "longest", "x real time, together")
    crowd = run["overload"]
    lost = crowd["other"] + crowd["different_bytes"]
    notes = [
        f"Each client sends one request after another: {run['audio_seconds']:.2f} s of audio by the bundled voice in "
        f"six steps as a stream, {run['slots']} slot, a queue of {run['queue']}.",
        f"Piper's server gets a sentence of {run['piper_audio_seconds']:.2f} s. Its voice has the size of Piper's "
        "medium voices and random weights, since none is on PyPI; it goes from text to sound, with another network. So "
        "the two differ in more than the server, and only the growth with the clients compares."
        if "piper_audio_seconds" in run
        else "",
        f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_at_start'][0]} at the start, "
        f"{results['date'][:10]}, commit {results['commit']} ([results](benchmarks/results/{FILE}.json)).",
    ]
    outcome = (
        f"Overload: {crowd['clients']} clients on {run['slots'] + run['queue']} places for {crowd['seconds']:.0f} s. "
        f"{crowd['accepted']} calls were accepted, {crowd['refused']} refused with 429, and {lost} of the accepted "
        f"ones failed or had other bytes. An accepted call took {crowd['total']['median']:.1f} s, the longest "
        f"{crowd['total']['longest']:.1f} s."
    )
    return f"{table(head, rows, align='rl')}\n\n{' '.join(filter(None, notes))}\n\n{outcome}"


def seconds_of(run: dict[str, float], server: str) -> float:
    """Return the seconds of audio of one request.

    Args:
        run: the results of one run.
        server: "engine" or "piper".
    """
    return run["piper_audio_seconds" if server == "piper" else "audio_seconds"]
