"""The command ``python -m engine.training``."""

from __future__ import annotations

import argparse
import io
import sys
from dataclasses import replace
from pathlib import Path

# The exit status of an error, as of the command `engine`: of any other kind, in the input, for lack of an extra.
FAILED, BAD_INPUT, UNAVAILABLE, INTERRUPTED = 1, 2, 3, 130
# The flags of the arguments that messages begin with; a message about a recipe names its file instead.
FLAGS = {
    "data": "--data",
    "device": "--device",
    "folder": "--folder",
    "guidance": "--guidance",
    "init": "--init",
    "labels": "--unconditional",
    "mib": "--mib",
    "precision": "--precision",
    "temperature": "--temperature",
    "threads": "--threads",
    "validate_every": "--validate-every",
}
TOP = """example:
  python -m engine.training fit voice --data recordings --folder training
  python -m engine.training export training -o my-voice.safetensors

The guide is docs/training.md. 'python -m engine.training COMMAND --help' lists
the options of a command.
"""
FIT = """examples:
  python -m engine.training fit voice --data recordings --folder training
  python -m engine.training fit my.toml --data recordings --init my.safetensors
  torchrun --nproc-per-node 2 -m engine.training fit voice --data recordings

The same command resumes an interrupted training.
"""
PACK = """example:
  python -m engine.training pack voice --data recordings -o packed.safetensors
  python -m engine.training fit voice --data packed.safetensors
"""
EXPORT = """example:
  python -m engine.training export training -o my-voice.safetensors
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return the exit status.

    An error that a user can cause is one line on stderr, never a traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # the terminal's encoding may lack characters of a file name
            stream.reconfigure(errors="backslashreplace")
    options = parser().parse_args(argv)
    try:
        return _run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except MemoryError as error:
        return _fail(str(error) or "not enough memory", FAILED)


def _run(options: argparse.Namespace) -> int:
    try:
        import torch  # noqa: F401
        import tqdm  # noqa: F401
    except ImportError as error:
        from engine.checks.installation import how_to_install

        return _fail(f"training needs {error.name}; run {how_to_install('train')}", UNAVAILABLE)
    from engine.checks.output_files import Terminated, unwinding_on_signals
    from engine.errors import CheckpointError, InputError, UnavailableError

    try:
        with unwinding_on_signals():
            return {"fit": _fit, "export": _export, "pack": _pack}[options.command](options)
    except Terminated as signal:
        print(f"ended by {signal.name}", file=sys.stderr)
        return signal.status
    except (CheckpointError, InputError) as error:
        return _fail(_with_flag(str(error)))
    except UnavailableError as error:
        return _fail(_with_flag(str(error)), UNAVAILABLE)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), FAILED)


def _fit(options: argparse.Namespace) -> int:
    import torch

    from engine.errors import InputError
    from engine.kernels.processors import available
    from engine.training.fit import STATE, Options, fit, resolve_precision
    from engine.training.settings import read_recipe

    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: expected one that PyTorch can use, got cuda; use --device cpu")
    if options.threads is not None:
        if options.threads < 1:
            raise InputError(f"threads: expected at least 1, got {options.threads}")
        torch.set_num_threads(options.threads)
    elif (processors := available().count) < torch.get_num_threads():  # PyTorch does not know the CPU quota
        torch.set_num_threads(processors)
    precision = resolve_precision(options.precision, device)
    recipe = read_recipe(options.recipe)
    if options.init:
        recipe = replace(recipe, training=replace(recipe.training, init=options.init))
    folder = options.folder or Path(f"{Path(options.recipe).stem}-training")
    run = Options(folder, device, precision, options.validate_every, skip_broken=options.skip_broken)
    done = fit(recipe, options.data, run)
    print(f"{'done' if done else 'interrupted; the same command resumes'}: {folder / STATE}", file=sys.stderr)
    return 0 if done else 130


def _export(options: argparse.Namespace) -> int:
    from engine.checks.output_files import check_output
    from engine.errors import InputError
    from engine.training.export import export, export_weights
    from engine.training.fit import STATE

    state = options.folder / STATE if options.folder.is_dir() else options.folder
    check_output(options.output, ".safetensors", state)
    if options.to_train_on:
        if options.unconditional or options.float32 or options.guidance is not None or options.temperature is not None:
            raise InputError("--to-train-on: expected no other option, because it writes the weights unchanged")
        export_weights(state, options.output)
    else:
        dtype = "float32" if options.float32 else "float16"
        labels = not options.unconditional
        defaults = {"guidance": options.guidance, "temperature": options.temperature}
        export(state, options.output, labels=labels, dtype=dtype, **defaults)
    print(f"wrote {options.output}")
    return 0


def _pack(options: argparse.Namespace) -> int:
    from engine.checks.output_files import check_output
    from engine.training.pack import pack
    from engine.training.settings import read_recipe

    check_output(options.output, ".safetensors", options.data)
    print(pack(read_recipe(options.recipe), options.data, options.output, options.mib, options.held_out))
    print(f"wrote {options.output}")
    return 0


def _with_flag(message: str) -> str:
    """Begin a message with the flag of its argument."""
    name, colon, rest = message.partition(": ")
    return rest if name == "recipe" else f"{FLAGS.get(name, name)}{colon}{rest}"


def _fail(message: str, status: int = BAD_INPUT) -> int:
    print(f"error: {message}", file=sys.stderr)
    return status


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m engine.training",
        description="Train a DiffWave network and export it for the engine.",
        epilog=TOP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_fit(commands)
    _add_export(commands)
    _add_pack(commands)
    return top


def _add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, examples: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_fit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    fit = _add_command(commands, "fit", "train a network by a recipe, or resume an interrupted training", FIT)
    fit.add_argument(
        "recipe", metavar="RECIPE", help="a TOML file, or the name of a bundled recipe (voice, voice-steps, digits)"
    )
    fit.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="the folder or packed file of the recordings"
    )
    text = "train without the recordings that cannot be read, instead of naming them and stopping"
    fit.add_argument("--skip-broken", action="store_true", help=text)
    text = "the folder of the state and the log (default: NAME-training for a recipe NAME or NAME.toml)"
    fit.add_argument("--folder", type=Path, metavar="DIR", help=text)
    text = (
        "start from the weights of a training's state, or of a checkpoint: a file, its folder, hf://owner/name, or a "
    )
    text += "bundled network"
    fit.add_argument("--init", metavar="CKPT", help=text)
    text = "the device (default: auto, a GPU if PyTorch can use one)"
    fit.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help=text)
    text = "the precision of the residual layers (default: auto, bf16 if the hardware multiplies it)"
    fit.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help=text)
    text = "the number of CPU threads of each process (default: PyTorch's, within the CPU quota)"
    fit.add_argument("--threads", type=int, metavar="N", help=text)
    text = "steps between two validations on the held-out recordings; 0 for none (default: 1000)"
    fit.add_argument("--validate-every", type=int, default=1000, metavar="STEPS", help=text)


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    export = _add_command(commands, "export", "write a trained network as a checkpoint for engine.load", EXPORT)
    text = "the folder of a training, or its state.safetensors"
    export.add_argument("folder", metavar="DIR", type=Path, help=text)
    text = "the .safetensors file to write"
    export.add_argument("-o", "--output", required=True, metavar="OUT", type=Path, help=text)
    text = "write the raw weights in float32, for the --init of another training"
    export.add_argument("--to-train-on", action="store_true", help=text)
    text = "write the unconditional network that a network with labels learned"
    export.add_argument("--unconditional", action="store_true", help=text)
    text = "the default guidance of engine.generate, for a network with labels (default: the recipe's, or 1)"
    export.add_argument("--guidance", type=float, metavar="W", help=text)
    text = "the default temperature of engine.generate, for a network without a mel (default: the recipe's, or 1)"
    export.add_argument("--temperature", type=float, metavar="T", help=text)
    text = "write float32, which doubles the size (default: float16)"
    export.add_argument("--float32", action="store_true", help=text)


def _add_pack(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    pack = _add_command(commands, "pack", "write a part of the recordings as one small file for fit --data", PACK)
    pack.add_argument("recipe", metavar="RECIPE", help="the recipe of the training; it selects the files")
    pack.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder of the recordings")
    text = "the .safetensors file to write"
    pack.add_argument("-o", "--output", required=True, metavar="OUT", type=Path, help=text)
    text = "the size that the file may have (default: 40)"
    pack.add_argument("--mib", type=_positive, default=40.0, metavar="MIB", help=text)
    text = "the number of held-out recordings, kept whole (default: 16)"
    pack.add_argument("--held-out", type=_count, default=16, metavar="N", help=text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
