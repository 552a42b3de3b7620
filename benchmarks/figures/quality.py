"""The measured quality of the bundled networks, as their cards show it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial

from benchmarks.committed import Results, Row, load
from benchmarks.figures.markdown import table

# Results of the bundled voice, all of the same clips. Another number of steps is another file.
VOICE = (
    "voice-quality",
    "voice-quality-draft",
    "voice-quality-matched",
    "voice-quality-draft-matched",
    "voice-quality-online",
    "voice-quality-online-matched",
)
MELS = ("", "exact", "blurred")
GRIFFIN_LIM, REFINED = "Griffin-Lim, 32 rounds", "voice on Griffin-Lim"
RTISI_LA, REFINED_ONLINE = "RTISI-LA", "voice on RTISI-LA"
NAMES = {
    "voice": "**the voice**",
    REFINED: "**the voice, refining Griffin-Lim**",
    REFINED_ONLINE: "**the voice, refining RTISI-LA**",
}
MATCHED = ", match_mel="  # and the largest gain, behind a name


def merged(*parts: Results) -> list[Row]:
    """Return the rows of results of the same clips in one order; what several measured is taken from the first.

    Raises:
        ValueError: the clips differ.
    """
    if any(results["files"] != parts[0]["files"] for results in parts):
        raise ValueError("expected results of the same clips")
    rows: dict[tuple[str, str, str, str], Row] = {}
    for results in parts:
        rows = {**{_method(row): row for row in results["rows"]}, **rows}
    order = dict.fromkeys(_method(row) for results in parts for row in results["rows"])
    return [rows[method] for method in sorted(order, key=lambda method: MELS.index(method[0]))]


def _name(row: Row) -> str:
    """Return the name of a row for a table."""
    name, separator, gain = row["name"].partition(MATCHED)
    return f"{NAMES.get(name, name)}{separator}{gain}"


def _method(row: Row) -> tuple[str, str, str, str]:
    return row["mels"], row["name"], str(row["steps"]), str(row["precision"])


def voice() -> str:
    """Return the table of the bundled voice from the committed results."""
    return table_of_voice(merged(*map(load, VOICE)))


def table_of_voice(rows: Sequence[Row]) -> str:
    """Return a table of PESQ, STOI and MOS from the rows of `benchmarks.quality.voice`, those in fp32."""
    head = (
        "mels",
        "audio",
        "steps",
        "PESQ-WB",
        "STOI",
        "predicted MOS",
        "MOS above Griffin-Lim's",
        "above no network's",
    )
    cells = [
        (
            row["mels"] or "-",
            _name(row),
            f"{row['steps'] or '-'}",
            spread(row["pesq_wb"], 2),
            spread(row["stoi"], 3),
            spread(row["mos"], 2),
            spread(row["mos_gain"], 2, signed=True),
            spread(row["mos_gain_no_network"], 2, signed=True),
        )
        for row in rows
        if row["precision"] in (None, "fp32")
    ]
    return table(head, cells, align="lll")


def spread(interval: Row | None, digits: int, signed: bool = False) -> str:
    """Return a mean with its interval, "2.11 (2.01 to 2.20)"; "" for None, and the mean alone for one clip.

    Args:
        interval: has the keys mean, low and high, of which the latter two may be None.
        digits: after the point.
        signed: whether positive values get a sign.
    """
    if interval is None:
        return ""
    sign = "+" if signed else ""
    mean, low, high = (
        "" if interval[key] is None else f"{interval[key]:{sign}.{digits}f}" for key in ("mean", "low", "high")
    )
    return f"{mean} ({low} to {high})" if low else mean


def precisions(rows: Sequence[Row]) -> str:
    """Return a table that compares the precisions, in steps that several of them have."""
    voices = [row for row in rows if row["name"] == "voice"]
    several = {row["steps"] for row in voices if row["precision"] != voices[0]["precision"]}
    head = ("mels", "steps", "precision", "PESQ-WB", "STOI", "predicted MOS", f"SNR against {voices[0]['precision']}")
    cells = [
        (
            row["mels"],
            f"{row['steps']}",
            row["precision"],
            *(
                "" if row[judge] is None else f"{row[judge]['mean']:.{digits}f}"
                for judge, digits in (("pesq_wb", 2), ("stoi", 3), ("mos", 2))
            ),
            "" if row["snr_db"] is None else f"{row['snr_db']:.1f} dB",
        )
        for row in voices
        if row["steps"] in several
    ]
    return table(head, cells, align="lll")


def drafts() -> str:
    """Return the scores of the voice from noise and from Griffin-Lim's draft, beside the draft itself."""
    return _scores({(GRIFFIN_LIM, None), ("voice", 6), (REFINED, 1), (REFINED, 2)})


def matching() -> str:
    """Return the scores of the voice as it is and matched to the mel, beside Griffin-Lim."""
    voices = (("voice", 6), (REFINED, 1), (REFINED, 2))
    ends = ("", f"{MATCHED}1", f"{MATCHED}inf")
    return _scores({(GRIFFIN_LIM, None)} | {(f"{name}{end}", steps) for name, steps in voices for end in ends})


def online() -> str:
    """Return the scores of the voice on RTISI-LA's draft, which streams refine, beside Griffin-Lim's."""
    refined = {(f"{REFINED_ONLINE}{end}", steps) for end in ("", f"{MATCHED}1") for steps in (1, 2)}
    return _scores({(GRIFFIN_LIM, None), (RTISI_LA, None), (f"{REFINED}{MATCHED}1", 2)} | refined)


def _scores(kept: Collection[tuple[str, int | None]]) -> str:
    """Return the table of some rows of the bundled voice, by name and steps."""
    rows = [row for row in merged(*map(load, VOICE)) if (row["name"], row["steps"]) in kept]
    head = ("mels", "audio", "steps", "PESQ-WB", "predicted MOS", "MOS above Griffin-Lim's")
    cells = [
        (
            row["mels"],
            _name(row),
            f"{row['steps'] or '-'}",
            spread(row["pesq_wb"], 2),
            spread(row["mos"], 2),
            spread(row["mos_gain"], 2, signed=True),
        )
        for row in rows
        if row["precision"] in (None, "fp32")
    ]
    return table(head, cells, align="lll")


def figure(mels: str, name: str, judge: str, digits: int = 2, steps: int | str | None = None) -> str:
    """Return one mean of the bundled voice's quality: "2.11".

    Args:
        mels: "exact" or "blurred"; "" for recordings.
        name: of the row, "voice" for the voice in fp32.
        judge: "pesq_wb", "stoi" or "mos".
        digits: after the point.
        steps: of the voice.
    """
    [row] = [
        row
        for row in merged(*map(load, VOICE))
        if (row["mels"], row["name"], row["steps"]) == (mels, name, steps) and row["precision"] in (None, "fp32")
    ]
    return f"{row[judge]['mean']:.{digits}f}"


def sentences() -> dict[str, Callable[[], str]]:
    """Return the blocks of single figures by name, such as "voice-exact-mos" and "griffin-lim-blurred-pesq"."""
    judges = {"pesq": "pesq_wb", "stoi": "stoi", "mos": "mos"}
    names: dict[str, tuple[str, int | None]] = {"voice": ("voice", 6), "refined": (REFINED, 2)}
    names |= {"griffin-lim": (GRIFFIN_LIM, None), "no-network": ("no network", None)}
    names |= {"matched": (f"{REFINED}{MATCHED}1", 2), "matched-inf": (f"{REFINED}{MATCHED}inf", 2)}
    blocks: dict[str, Callable[[], str]] = {"recordings-mos": partial(figure, "", "recordings", "mos")}
    for short, (name, steps) in names.items():
        for mels in MELS[1:]:
            for judge, key in judges.items():
                blocks[f"{short}-{mels}-{judge}"] = partial(figure, mels, name, key, 3 if key == "stoi" else 2, steps)
    blocks["voice-other-speaker-pesq"] = partial(earlier, "quality", clips="ljspeech16", precision="fp32")
    for steps, short in ((6, "six"), ("full", "full")):
        blocks[f"voice-{short}-steps-pesq"] = partial(earlier, "quality-steps", steps=steps)
    return blocks


def earlier(file: str, **values: object) -> str:
    """Return the PESQ-WB of a row that was measured on exact mels, before there were other judges: "1.42".

    Args:
        file: stem of the results.
        values: of the row's keys.
    """
    [row] = [row for row in load(file)["rows"] if all(row[key] == value for key, value in values.items())]
    return f"{row['pesq_wb']:.2f}"


JUDGES = {
    "accuracy": "accuracy: network",
    "accuracy_svm": "support vector machine",
    "accuracy_worse": "the worse",
    "agreement": "judges agree",
}


def digits(rows: Sequence[Row]) -> str:
    """Return a table of accuracy, distance and novelty from the rows of `benchmarks.quality.digits`."""
    head = (
        *("clips", "n", *JUDGES.values()),
        *("Frechet distance", "inception score", "spread within a digit"),
        *("correlation with the nearest training clip, median / largest", "copies"),
    )
    cells = [
        (
            row["name"],
            f"{row['clips']}",
            *(percent(row[judge]) for judge in JUDGES),
            f"{row['frechet']:.2f}",
            f"{row['inception_score']:.2f}",
            f"{row['spread']:.2f}",
            f"{row['resemblance_median']:.2f} / {row['resemblance_largest']:.2f}",
            f"{row['copies']}",
        )
        for row in rows
    ]
    return table(head, cells)


def percent(share: float | None) -> str:
    """Return a share in percent, "" for None."""
    return "" if share is None else f"{100 * share:.1f} %"


def disagreements(rows: Sequence[Row]) -> str:
    """Return a table of the clips in which two judges hear different digits, for the rows with labels."""
    head = ("clips", "label", "heard by the network", "heard by the support vector machine", "number of clips")
    cells = [
        (row["name"], f"{case['label']}", f"{case['network']}", f"{case['svm']}", f"{case['clips']}")
        for row in rows
        for case in row["disagreements"]
        if case["label"] is not None
    ]
    return table(head, cells, align="lrrrr")


def samples(rows: Sequence[Row]) -> str:
    """Return a table of the clips in docs/samples from the rows of `benchmarks.quality.samples`."""
    cells = [
        (row["clip"], f"{row['pesq_wb']:.2f}", f"{row['stoi']:.3f}", f"{row['mel_error_db']:.1f} dB") for row in rows
    ]
    return table(("clip", "PESQ-WB", "STOI", "mel error"), cells)


def accuracy(judge: str, temperature: float = 0.9) -> str:
    """Return the share of the bundled digits that a judge hears as their label, in percent: "94".

    Args:
        judge: "accuracy" for the network, "accuracy_svm", or "accuracy_worse" for the worse of both.
        temperature: of the noise, by default that of the bundled network.
    """
    name = f"digits, steps full, guidance 2, temperature {temperature:g}"
    [row] = [row for row in load("digits")["rows"] if row["name"] == name]
    return f"{100 * row[judge]:.0f}"
