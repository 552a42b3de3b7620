"""Quality of a voice on clips that it was not trained on, beside recordings and two vocoders without a network.

python -m benchmarks.quality.voice [--model FILE] [--clips FOLDER] [--count N] [--precision fp32 int8] [--steps 6 full]
    [--draft] [--results FILE]

Every clip is analyzed by `engine.mel` and vocoded from two mels: the exact one, and one that is blurred as an acoustic
model's is (engine/training/blur.py). docs/quality.md explains the figures. With --results, the same command continues
an interrupted measurement. Needs the extra `quality`. Without --clips,
the shared recordings beside the project: clips of the bundled voice's own speaker that its training held out.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import math
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import engine
from benchmarks.committed import Row
from benchmarks.figures.quality import GRIFFIN_LIM, MATCHED, REFINED, REFINED_ONLINE, RTISI_LA
from benchmarks.figures.quality import table_of_voice as table
from benchmarks.paths import SHARED
from benchmarks.quality.no_network import corrected_noise
from benchmarks.quality.partial import Partial
from benchmarks.quality.scores import NEEDS, Judged, Method, Scores, gain, interval, judge, means, versions
from engine import Voice
from engine.audio.griffin_lim import griffin_lim
from engine.audio.metrics import snr
from engine.audio.rtisi import rtisi_la
from engine.audio.spectrogram import mel_settings
from engine.checkpoint.bundled import BUNDLED
from engine.checks.arrays import FloatArray
from engine.checks.installation import how_to_install
from engine.cli.bench.machine import commit
from engine.cli.parsing import largest_gain
from engine.errors import InputError, UnavailableError
from engine.training.blur import blurred

HELD_OUT = "*0.*"  # of Kerstin, by the recipe of the bundled voice
SEED = 0
LEAST = 16  # clips of a result
EXACT, BLURRED = "exact", "blurred"
NO_NETWORK = "no network"
REFINING = {"griffin-lim": REFINED, "rtisi-la": REFINED_ONLINE}


@dataclass(frozen=True)
class Clips:
    """Recordings of a folder.

    Attributes:
        folder: folder of .flac and .wav files.
        count: number of recordings, spread evenly; None for all.
        pattern: pattern of their names.
    """

    folder: Path
    count: int | None = None
    pattern: str = "*"

    @property
    def name(self) -> str:
        """Title of the clips."""
        return self.folder.name if self.pattern == "*" else f"{self.folder.name}, held out (`{self.pattern}`)"


DEFAULT = Clips(SHARED / "kerstin_22k", LEAST, HELD_OUT)


@dataclass(frozen=True)
class Setting:
    """A way to vocode.

    Attributes:
        voice: the voice.
        steps: their number.
        draft: what they refine, a key of `REFINING`, or None for noise.
        match_mel: see `Voice.vocode`.
    """

    voice: Voice
    steps: int | str
    draft: str | None = None
    match_mel: float | None = None

    @property
    def name(self) -> str:
        """Title of the column."""
        draft = f", {self.draft}" if self.draft else ""
        return f"{self.voice.choice.precision}, {self.steps}{draft}{self._match}"

    @property
    def label(self) -> str:
        """Name of the row, without precision and steps."""
        return f"{REFINING[self.draft] if self.draft else 'voice'}{self._match}"

    @property
    def _match(self) -> str:
        return "" if self.match_mel is None else f"{MATCHED}{self.match_mel:g}"


Vocoder = Callable[[FloatArray], FloatArray]


def vocoders(settings: Sequence[Setting]) -> dict[str, Vocoder]:
    """Return by name every way from a mel to audio: those without a network, and each setting."""
    voice = settings[0].voice
    front_end = mel_settings(voice.config)
    options: dict[str, Any] = {"kind": front_end["kind"], "fmax": front_end["fmax"], "seed": SEED}

    online = any(setting.draft == "rtisi-la" for setting in settings)

    def vocode(setting: Setting, mel: FloatArray) -> FloatArray:
        return setting.voice.vocode(
            mel, steps=setting.steps, seed=SEED, draft=setting.draft, match_mel=setting.match_mel
        )

    return {
        GRIFFIN_LIM: lambda mel: griffin_lim(mel, voice.sample_rate, **options),
        **({RTISI_LA: lambda mel: rtisi_la(mel, voice.sample_rate, **options)} if online else {}),
        NO_NETWORK: lambda mel: corrected_noise(mel, voice.sample_rate, **options),
        **{setting.name: partial(vocode, setting) for setting in settings},
    }


def measure(settings: Sequence[Setting], file: Path) -> dict[Method, Judged]:
    """Judge one clip.

    Returns:
        The judgments by mels and name. The recording has the mels "" and is judged without a reference alone.
    """
    import soundfile

    recording, rate = soundfile.read(file, dtype="float32")
    voice = settings[0].voice
    if rate != voice.sample_rate:
        sys.exit(f"quality: {file.name}: expected {voice.sample_rate} Hz, got {rate}")
    exact = engine.mel(recording, rate, **mel_settings(voice.config))
    mels = {EXACT: exact, BLURRED: blurred(exact, zlib.crc32(file.stem.encode()), voice.config.mel_kind)}
    judged = {("", "recordings"): Judged(Scores(mos=judge(recording, recording, rate).mos))}
    steps = {setting.name: setting.steps for setting in settings}
    for name_of_mels, mel in mels.items():
        first: dict[int | str, FloatArray] = {}
        for name, vocode in vocoders(settings).items():
            audio = vocode(mel)[: len(recording)]  # the last frame is centered on the clip's end
            reference = first.setdefault(steps.get(name, name), audio)
            decibels = snr(reference, audio) if name in steps else math.nan
            judged[name_of_mels, name] = Judged(judge(recording[: len(audio)], audio, rate), decibels)
    return judged


def choose(clips: Clips, count: int) -> list[Path]:
    """Return this many files, spread evenly; the same ones each time."""
    files = sorted(path for path in clips.folder.glob(clips.pattern) if path.suffix in (".flac", ".wav"))
    if not files:
        sys.exit(f"quality: no .flac or .wav files in {clips.folder}")
    return [files[i * len(files) // count] for i in range(count)] if count < len(files) else files


def rows_of(settings: Sequence[Setting], clips: Sequence[Mapping[Method, Judged]]) -> list[Row]:
    """Return a row per kind of mels and way to audio, with means and intervals over the clips.

    Args:
        settings: the settings to compare.
        clips: the judgments of each clip.
    """
    by_name = {setting.name: setting for setting in settings}
    rows = []
    for mels, name in clips[0]:
        judged = [clip[mels, name] for clip in clips]
        scores = [each.scores for each in judged]
        setting = by_name.get(name)
        row: Row = {
            "mels": mels,
            "name": setting.label if setting else name,
            "steps": setting.steps if setting else None,
            "precision": setting.voice.choice.precision if setting else None,
            **{judge: asdict(ends) if ends else None for judge, ends in means(scores).items()},
            "mos_gain": None,
            "mos_gain_no_network": None,
            "snr_db": None,
            "scores": [[value if math.isfinite(value) else None for value in astuple(score)] for score in scores],
        }
        if setting:
            for key, baseline in (("mos_gain", GRIFFIN_LIM), ("mos_gain_no_network", NO_NETWORK)):
                ends = gain(scores, [clip[mels, baseline].scores for clip in clips])
                row[key] = asdict(ends) if ends else None
            decibels = interval([each.snr_db for each in judged])
            row["snr_db"] = decibels.mean if decibels else None
        rows.append(row)
    return rows


def print_clip(file: Path, judged: Mapping[Method, Judged]) -> None:
    """Print the scores of one clip."""
    print(f"{file.stem}: PESQ-WB, STOI, MOS, log-mel error, SNR dB")
    for (mels, name), each in judged.items():
        figures = (*astuple(each.scores), each.snr_db)
        cells = (f"{value:>8.3f}" if math.isfinite(value) else f"{'-':>8}" for value in figures)
        print(f"  {mels:<8}{name:<24}" + "".join(cells), flush=True)


def main() -> None:
    """Measure the clips, print the tables and write the results."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="a checkpoint (default: the bundled voice)")
    parser.add_argument(
        "--clips", type=Path, help="a folder of recordings at the voice's rate, none of them trained on"
    )
    parser.add_argument("--count", type=int, help="number of clips, spread evenly (default: all of --clips)")
    parser.add_argument("--precision", nargs="+", default=["fp32"], choices=["fp32", "bf16", "int8"])
    parser.add_argument("--steps", nargs="+", default=["6"], help="numbers of steps (default: 6), or full")
    parser.add_argument(
        "--draft", nargs="?", const="griffin-lim", choices=REFINING, help="let the steps refine a waveform of this kind"
    )
    parser.add_argument(
        "--match-mel",
        nargs="+",
        type=largest_gain,
        default=[None],
        metavar="G",
        help="largest gains of a band towards the mel",
    )
    parser.add_argument("--results", type=Path, help=f"write the figures as JSON; takes at least {LEAST} clips")
    options = parser.parse_args()
    if missing := [name for name in NEEDS if importlib.util.find_spec(name) is None]:
        sys.exit(f"quality: {missing[0]} is missing; run {how_to_install('quality')}")
    if options.results and not options.results.parent.is_dir():
        sys.exit(f"quality: --results: expected a file in an existing folder, got {options.results}")
    clips = Clips(options.clips) if options.clips else DEFAULT
    if not clips.folder.is_dir():
        sys.exit(f"quality: no folder {clips.folder}; name one with --clips")
    files = choose(clips, options.count or clips.count or sys.maxsize)
    if options.results and len(files) < LEAST:
        sys.exit(f"quality: --count: expected at least {LEAST} clips for --results, got {len(files)}")
    settings = _settings(options.model, options.precision, options.steps, options.draft, options.match_mel)
    voice = settings[0].voice
    print(f"engine {engine.__version__}, seed {SEED}\n{voice.explain().splitlines()[0]}\n{clips.name}", flush=True)
    header = {
        "engine": engine.__version__,
        "versions": versions(),
        "tiers": {setting.voice.choice.precision: setting.voice.choice.isa for setting in settings},
        "settings": [setting.name for setting in settings],
        "model": options.model.name if options.model else "the bundled voice",
        "weights": _fingerprint(options.model or BUNDLED),
        "seed": SEED,
        "clips": clips.name,
    }
    partial, judged = Partial(options.results, header), []
    for file in files:
        known = partial[file.stem]
        judged.append(known or measure(settings, file))
        if not known:
            partial.add(file.stem, judged[-1])
        print_clip(file, judged[-1])
    rows = rows_of(settings, judged)
    print(f"\n{table(rows)}")
    if options.results:
        about = {"commit": commit(), "count": len(files), "files": [file.stem for file in files]}
        columns = {"columns_of_scores": list(Scores.__dataclass_fields__)}
        options.results.write_text(json.dumps({**header, **about, **columns, "rows": rows}, indent=1) + "\n")
        partial.remove()


def _fingerprint(file: Path) -> str:
    """Return the first digits of a file's SHA-256."""
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _settings(
    model: Path | None,
    precisions: Sequence[str],
    steps: Sequence[str],
    draft: str | None,
    gains: Sequence[float | None],
) -> list[Setting]:
    """Load the voices, or exit where none is available."""
    voices = []
    for precision in precisions:
        try:
            voices.append(engine.load(model, device="cpu", precision=precision))
        except UnavailableError as error:
            print(f"left out: {error}")
    if not voices:
        sys.exit("quality: none of the precisions is available here")
    try:
        mel_settings(voices[0].config)
    except InputError as error:
        sys.exit(f"quality: --model: {error}")
    numbers = [int(text) if text.isdecimal() else text for text in steps]
    return [Setting(voice, number, draft, most) for number in numbers for voice in voices for most in gains]


if __name__ == "__main__":
    main()
