"""Write docs/api.md and docs/api/*.md from the docstrings: python -m docs.tools.api_reference.

tests/documents/test_api_reference.py fails when the pages are stale.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from docs.tools.docstrings import ROOT, Member, exported, members
from docs.tools.links import slug

NOTICE = "<!-- Written by `python -m docs.tools.api_reference` from the docstrings. Do not edit. -->"
FENCE = "```"


@dataclass(frozen=True)
class Page:
    """One page of the reference.

    Attributes:
        file: its name in docs/api/.
        title: its heading.
        introduction: the paragraph below the heading.
        objects: the dotted names of what it documents, in order.
    """

    file: str
    title: str
    introduction: str
    objects: tuple[str, ...]


PAGES = (
    Page(
        "functions.md",
        "Functions",
        "The functions of the module `engine`. `load` returns a `Voice`. `vocode`, `generate`, `denoise` and "
        "`interpolate` call the method of the same name, of a bundled network or of the checkpoint in `model`.",
        (
            "engine.load",
            "engine.vocode",
            "engine.generate",
            "engine.denoise",
            "engine.interpolate",
            "engine.mel",
        ),
    ),
    Page(
        "files.md",
        "Many files",
        "Folders of mels and recordings to folders of results. [Many files](../many-files.md) has examples for one "
        "machine and for several.",
        ("engine.vocode_files", "engine.bulk.mel_files", "engine.bulk.Summary"),
    ),
    Page(
        "voice.md",
        "Voice",
        "A loaded network. `engine.load` returns one.",
        ("engine.Voice",),
    ),
    Page(
        "streams.md",
        "Streams",
        "`Voice.stream` returns `Chunks`, `Voice.open_stream` returns a `Stream`. [Streaming](../streaming.md) has "
        "examples.",
        (
            "engine.sampling.streaming.stream.Stream",
            "engine.sampling.streaming.chunks.Chunks",
            "engine.sampling.item.Event",
        ),
    ),
    Page(
        "configuration.md",
        "Configuration and schedules",
        "The hyper-parameters of a network, and the steps of the reverse process.",
        (
            "engine.config.Config",
            "engine.diffusion.schedule.Schedule",
            "engine.diffusion.schedule.build_schedule",
            "engine.diffusion.schedule.step_counts",
            "engine.diffusion.schedule.merge_betas",
        ),
    ),
    Page(
        "checkpoints.md",
        "Checkpoints and calibration",
        "Reading, writing and calibrating checkpoints. [Checkpoints](../checkpoints.md) lists the formats.",
        (
            "engine.checkpoint.Checkpoint",
            "engine.checkpoint.load_checkpoint",
            "engine.checkpoint.save_checkpoint",
            "engine.tuning.int8.calibrate",
            "engine.tuning.int8.Agreement",
            "engine.tuning.steps.tune_steps",
            "engine.tuning.steps.Clip",
            "engine.tuning.steps.Tuned",
            "engine.tuning.steps.with_schedules",
        ),
    ),
    Page(
        "audio.md",
        "Audio files and mel settings",
        "Reading and writing recordings, and the mel front-end of a checkpoint. [Mel spectrograms](../mels.md) has a "
        "list of the kinds.",
        (
            "engine.audio.stream_mel",
            "engine.audio.convert_mel",
            "engine.audio.mel_settings",
            "engine.audio.MelSettings",
            "engine.audio.read_audio",
            "engine.audio.write_wav",
            "engine.audio.resample",
        ),
    ),
    Page(
        "compat.md",
        "Calls of other packages",
        "The calls of LMNT's and SpeechBrain's code. [Replace LMNT, SpeechBrain and philsyn](../compat.md) "
        "lists the differences, and has philsyn's command.",
        (
            "engine.compat.lmnt.predict",
            "engine.compat.speechbrain.DiffWaveVocoder",
        ),
    ),
    Page(
        "serving.md",
        "Service",
        "The service as an ASGI application. [Serving](../serving.md) describes its routes.",
        ("engine.serving.app", "engine.serving.Limits"),
    ),
    Page(
        "nn.md",
        "PyTorch module",
        "The vocoder as a part of a PyTorch model. [Front-ends](../front-ends.md#the-vocoder-inside-a-pytorch-model) "
        "has an example.",
        ("engine.nn.Vocoder", "engine.nn.draw_seeds"),
    ),
    Page(
        "errors.md",
        "Errors",
        "Every error message has the form `argument: expected X, got Y; remedy`.",
        ("engine.InputError", "engine.CheckpointError", "engine.UnavailableError", "engine.Cancelled"),
    ),
    Page(
        "types.md",
        "Types in signatures",
        "Aliases and type variables. `FloatArray` is a float32 NumPy array. A function with `ArrayT` or `MelT` returns "
        "the kind that it receives: NumPy for NumPy, torch for torch, and a list for a list.",
        (
            "engine.checks.arrays.FloatArray",
            "engine.checks.arrays.AnyArray",
            "engine.checks.arrays.ArrayT",
            "engine.checks.arrays.MelT",
            "engine.voice.api.Model",
            "engine.sampling.item.Progress",
            "engine.bulk.api.Inputs",
            "engine.bulk.inputs.Input",
            "engine.bulk.summary.BulkProgress",
        ),
    ),
)


class Reference:
    """All documented objects, and the links between them."""

    def __init__(self) -> None:
        """Read them from the source."""
        self.pages = {page.file: [members(name) for name in page.objects] for page in PAGES}
        self.imports = {members(name)[0].name: name for page in PAGES for name in page.objects}
        self.places = {
            member.name: f"{file}#{slug(member.name)}"
            for file, groups in self.pages.items()
            for group in groups
            for member in group
        }

    def index(self) -> str:
        """Return the text of docs/api.md: every object with its first line."""
        lines = [NOTICE, "# API reference", ""]
        lines += ["Signatures and docstrings of the public objects, one page per topic.", ""]
        for page in PAGES:
            lines += [f"## {page.title}", "", "| object | purpose |", "|---|---|"]
            for group in self.pages[page.file]:
                for member in group:
                    summary = self.prose(member.doc.summary, page.file, "api/").replace("|", "\\|")
                    lines.append(f"| [`{member.name}`](api/{self.places[member.name]}) | {summary} |")
            lines.append("")
        return "\n".join(lines)

    def page(self, page: Page) -> str:
        """Return the text of one page."""
        parts = [f"{NOTICE}\n# {page.title}", self.prose(page.introduction, page.file)]
        for group in self.pages[page.file]:
            for number, member in enumerate(group):
                parts += self.entry(member, page.file, "##" if number == 0 else "###")
        return "\n\n".join(part for part in parts if part) + "\n"

    def entry(self, member: Member, file: str, level: str) -> list[str]:
        """Return the paragraphs on one object."""
        doc = member.doc
        parts = [f"{level} {member.name}", f"{FENCE}python\n" + "\n\n".join(member.signatures) + f"\n{FENCE}"]
        if member.kind in ("property", "constant") and "." in member.name:
            parts[-1] = f"Property `{member.signatures[0].replace('()', '')}`"
        parts += [self.prose(doc.summary, file), self.prose(doc.body, file)]
        described = dict(doc.items("Attributes"))
        if member.fields:
            parts += [
                "**Fields**",
                "\n".join(self.field(*field, described.pop(field[0], ""), file) for field in member.fields),
            ]
        for title, items in (
            ("Attributes", list(described.items())),
            ("Arguments", doc.items("Args")),
            ("Raises", doc.items("Raises")),
        ):
            if title == "Raises":
                for section in ("Returns", "Yields"):
                    if section in doc.sections:
                        parts += [f"**{section}**", self.prose(doc.sections[section], file)]
            if items:
                parts += [f"**{title}**", "\n".join(f"- `{name}`: {self.item(text, file)}" for name, text in items)]
        for section in ("Note", "Example", "Examples"):
            if section in doc.sections:
                parts += [f"**{section}**", doc.sections[section]]
        if level == "##":
            parts.insert(1, f"`{self.imports[member.name]}`, defined in [{member.path}](../../{member.path})")
        return parts

    def field(self, name: str, annotation: str, default: str, text: str, file: str) -> str:
        """Return the bullet of a field of a dataclass."""
        value = f" = {default}" if default else ""
        return f"- `{name}: {annotation}{value}`" + (f": {self.item(text, file)}" if text else "")

    def item(self, text: str, file: str) -> str:
        """Return the text of a bullet, with its later lines indented."""
        return self.prose(text, file).replace("\n", "\n  ")

    def prose(self, text: str, file: str, folder: str = "") -> str:
        """Turn the text of a docstring into Markdown, with links to the objects that it names.

        Args:
            text: one or more paragraphs; a line that ends in "::" opens an indented literal block.
            file: the page in docs/api/ that it is for.
            folder: the way from the page to docs/api/.
        """
        paragraphs = text.split("\n\n")
        return "\n\n".join(
            p if p.startswith("    ") else self._paragraph(re.sub(r"::$", ":", p), file, folder) for p in paragraphs
        )

    def _paragraph(self, text: str, file: str, folder: str) -> str:
        pieces = re.split(r"(``.+?``|`[^`]+`)", text, flags=re.DOTALL)
        for number, piece in enumerate(pieces):
            if number % 2:
                place = self.places.get(self._full_name(piece.strip("`"), file))
                pieces[number] = f"[{piece}]({folder}{place})" if place else piece
            else:
                plain = piece.replace("<", "&lt;").replace("*", "\\*")
                pieces[number] = re.sub(r"\bdocs/([\w-]+\.md)", rf"[docs/\1]({'' if folder else '../'}\1)", plain)
        return "".join(pieces)

    def _full_name(self, name: str, file: str) -> str:
        """Return the name under which an object is documented: "vocode" is a method on the page of its class."""
        name = re.sub(r"\(.*\)$", "", name)
        name = next(
            (name.removeprefix(p) for p in ("engine.voice.", "engine.config.", "engine.") if name.startswith(p)), name
        )
        if file == "voice.md" and f"Voice.{name}" in self.places:
            return f"Voice.{name}"
        return name


def texts() -> dict[Path, str]:
    """Return the text of every page of the reference by its path."""
    reference = Reference()
    pages = {ROOT / "docs" / "api" / page.file: reference.page(page) for page in PAGES}
    return {ROOT / "docs" / "api.md": reference.index(), **pages}


def missing() -> list[str]:
    """Return the public names of `engine` that no page documents."""
    documented = {name for page in PAGES for name in page.objects}
    return [name for name in exported("engine") if f"engine.{name}" not in documented]


if __name__ == "__main__":
    (ROOT / "docs" / "api").mkdir(exist_ok=True)
    for path, text in texts().items():
        path.write_text(text)
        print(path.relative_to(ROOT))
