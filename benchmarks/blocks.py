"""Named blocks of figures in the pages, generated from the committed results.

    python -m benchmarks.blocks            # rewrite every block and picture
    python -m benchmarks.blocks --check    # exit 1 if one is stale
    python -m benchmarks.blocks --list     # names and texts

A page holds `<!-- figures: NAME begin -->` and `<!-- figures: NAME end -->`. Where a line break follows the first
marker, the block stands between lines of its own; where none does, it stands within the sentence. A line must not begin
with a marker within a sentence: Markdown would take the line for HTML. Links are rewritten relative to the page.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.committed import MACHINES, load
from benchmarks.figures import (
    contention,
    conversion,
    front,
    generation,
    gpu,
    growth,
    kernels,
    machines,
    many_files,
    pairs,
    quality,
    roofline,
    roofline_plot,
    serving,
    speed_plot,
    steps,
    stream_plot,
    streams,
    sweep_plot,
    tuning,
)
from benchmarks.paths import ROOT
from benchmarks.report import legend, markdown

PAGES = (
    "*.md",
    "docs/**/*.md",
    "engine/assets/*.md",
    "csrc/**/*.md",
    "kernels/**/*.md",
    "benchmarks/**/*.md",
    "examples/**/*.md",
    "tests/**/*.md",
)
MARKERS = re.compile(r"<!-- figures: (?P<name>\S+) begin -->(?P<text>.*?)<!-- figures: (?P=name) end -->", re.DOTALL)
LINK = re.compile(r"\]\(((?!\w+:|#)[^)]+)\)")


def _comparisons(file: str) -> str:
    return markdown(load(file), explained=False)


BLOCKS: dict[str, Callable[[], str]] = {
    "claims": front.claims,
    "claim-cpu": front.cpu_claim,
    "claim-gpu": front.gpu_claim,
    "claim-memory": front.memory_claim,
    "readme-speed": front.readme_speed,
    "machines": machines.machines,
    **{f"cpu-{name}": partial(_comparisons, machine.file) for name, machine in MACHINES.items()},
    "cpu-legend": legend,
    "growth": growth.growth,
    "growth-batches": growth.batches,
    **{f"growth-{axis}": partial(growth.growth_of, axis) for axis in growth.AXES},
    **{f"generation-{name}": partial(generation.generation, name) for name in ("zen3", "icelake")},
    "stream-overhead": streams.overhead,
    "stream-first-audio": streams.first_audio,
    "stream-cancelling": streams.cancelling,
    "gpu-calls": gpu.calls,
    "gpu-comparison": gpu.comparison,
    "gpu-peaks": gpu.peaks,
    **{f"gpu-speed-{precision}": partial(gpu.speed_of, precision) for precision in gpu.PRECISIONS},
    "gpu-times-lmnt": partial(gpu.ratio_to, "LMNT, PyTorch eager"),
    "gpu-times-autocast": partial(gpu.ratio_to, "LMNT, fp16 autocast"),
    "gpu-times-graph": partial(gpu.ratio_to, "PyTorch fp16, CUDA graph"),
    "roofline": roofline.prediction,
    "roofline-groups": roofline.groups,
    "roofline-measured": roofline.measured,
    "roofline-validation": roofline.validation,
    "roofline-paper": roofline.paper,
    "roofline-assumptions": roofline.assumptions,
    "kernel-levels": kernels.levels,
    **{f"kernel-{name}": gain for name, (_, gain) in kernels.LEVELS.items()},
    "contention": contention.relative,
    "many-files-workers": many_files.workers,
    "serving-load": serving.latencies,
    "many-files-cost": many_files.cost,
    "few-steps": lambda: steps.few_steps(load("steps-zen4-2-cores"), "steps-zen4-2-cores"),
    "training-few-steps": tuning.table,
    "training-pairs": lambda: pairs.table(load("pairs")["rows"]),
    "quality-voice": quality.voice,
    "draft-claim": quality.drafts,
    "match-claim": quality.matching,
    "online-claim": quality.online,
    "draft-speed": steps.drafts,
    "quality-precisions": lambda: quality.precisions(load("voice-quality")["rows"]),
    "quality-clips": lambda: f"{load('voice-quality')['count']}",
    **quality.sentences(),
    "quality-digits": lambda: quality.digits(load("digits")["rows"]),
    "digits-accuracy": partial(quality.accuracy, "accuracy_worse"),
    "digits-accuracy-network": partial(quality.accuracy, "accuracy"),
    "digits-accuracy-svm": partial(quality.accuracy, "accuracy_svm"),
    "digits-warm-network": partial(quality.accuracy, "accuracy", 1.0),
    "digits-warm-svm": partial(quality.accuracy, "accuracy_svm", 1.0),
    "digits-disagreements": lambda: quality.disagreements(load("digits")["rows"]),
    "mel-conversion": conversion.committed,
    "samples": lambda: quality.samples(load("samples")["rows"]),
}
PICTURES: dict[str, Callable[[], str]] = {
    "docs/images/speed.svg": speed_plot.svg,
    "docs/images/streaming.svg": stream_plot.svg,
    "docs/images/sweep.svg": sweep_plot.svg,
    "docs/images/gpu-roofline.svg": roofline_plot.svg,
}


def pages(root: Path = ROOT) -> list[Path]:
    """Return every page that may hold blocks."""
    return sorted({path for pattern in PAGES for path in root.glob(pattern)})


def names_in(text: str) -> list[str]:
    """Return the names of all markers of a page, in their order.

    Raises:
        ValueError: a marker has no partner.
    """
    names = [match["name"] for match in MARKERS.finditer(text)]
    markers = re.findall(r"<!-- figures: (\S+) (?:begin|end) -->", text)
    lonely = {name for name in markers if markers.count(name) != 2 * names.count(name)}
    if lonely:
        raise ValueError(f"{', '.join(sorted(lonely))}: expected a begin and an end for each block")
    return names


def rewritten(text: str, page: Path) -> str:
    """Return the text of a page with all its blocks as the committed results have them.

    Raises:
        ValueError: a name is not in BLOCKS, or a marker has no partner.
    """
    unknown = sorted(set(names_in(text)) - set(BLOCKS))
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: expected a block of benchmarks/blocks.py; see --list")

    def fresh(match: re.Match[str]) -> str:
        block = linked_from(page, BLOCKS[match["name"]]())
        body = f"\n{block}\n" if match["text"].startswith("\n") else block
        return f"<!-- figures: {match['name']} begin -->{body}<!-- figures: {match['name']} end -->"

    return MARKERS.sub(fresh, text)


def linked_from(page: Path, block: str) -> str:
    """Return a block with links relative to the page instead of the project's root."""

    def relative(match: re.Match[str]) -> str:
        return f"]({os.path.relpath(ROOT / match[1], page.parent)})"

    return LINK.sub(relative, block)


def stale() -> Iterator[tuple[Path, str]]:
    """Yield every page and picture that differs from the committed results, with its fresh text.

    Raises:
        ValueError: see `rewritten`; the message names the page.
    """
    for page in pages():
        text = page.read_text()
        try:
            fresh = rewritten(text, page)
        except ValueError as error:
            raise ValueError(f"{page.relative_to(ROOT)}: {error}") from None
        if fresh != text:
            yield page, fresh
    for name, draw in PICTURES.items():
        path = ROOT / name
        if not path.is_file() or path.read_text() != draw():
            yield path, draw()


def main(argv: Sequence[str] | None = None) -> int:
    """Rewrite, check or list the blocks, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", action="store_true", help="write nothing and exit 1 if a page or picture is stale")
    mode.add_argument("--list", action="store_true", help="print every block")
    arguments = parser.parse_args(argv)
    if arguments.list:
        print("\n\n".join(f"== {name}\n{block()}" for name, block in BLOCKS.items()))
        return 0
    try:
        changes = list(stale())
    except ValueError as error:
        sys.exit(f"blocks: {error}")
    for path, text in changes:
        print(f"{'stale' if arguments.check else 'wrote'}: {path.relative_to(ROOT)}")
        if not arguments.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return int(arguments.check and bool(changes))


if __name__ == "__main__":
    sys.exit(main())
