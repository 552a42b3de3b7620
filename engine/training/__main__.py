"""The command ``python -m engine.training``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit status."""
    options = _parser().parse_args(argv)
    try:
        import torch  # noqa: F401
        import tqdm  # noqa: F401
    except ImportError as error:
        return _fail(f"training needs {error.name}; run pip install -e '.[train]' in the source folder")
    from engine.errors import CheckpointError, InputError, UnavailableError

    try:
        return {"fit": _fit, "export": _export}[options.command](options)
    except (CheckpointError, InputError, UnavailableError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _fit(options: argparse.Namespace) -> int:
    import torch

    from engine.errors import InputError
    from engine.training.fit import STATE, Options, check_precision, fit
    from engine.training.settings import read_recipe

    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: cuda is not available to PyTorch here; use --device cpu")
    if options.threads is not None:
        if options.threads < 1:
            raise InputError(f"threads: expected at least 1, got {options.threads}")
        torch.set_num_threads(options.threads)
    precision = check_precision(options.precision, device)
    recipe = read_recipe(options.recipe)
    if options.init:
        recipe = replace(recipe, training=replace(recipe.training, init=str(options.init)))
    folder = options.folder or Path(f"{Path(options.recipe).stem}-training")
    done = fit(recipe, options.data, Options(folder, device, precision, options.validate_every))
    print(f"{'done' if done else 'interrupted; the same command goes on'}: {folder / STATE}", file=sys.stderr)
    return 0 if done else 130


def _export(options: argparse.Namespace) -> int:
    from engine.errors import InputError
    from engine.output_files import check_output
    from engine.training.export import export, export_to_train_on
    from engine.training.fit import STATE

    state = options.folder / STATE if options.folder.is_dir() else options.folder
    check_output(options.output, ".safetensors", state)
    if options.to_train_on:
        if options.unconditional or options.float32 or options.guidance is not None:
            raise InputError("--to-train-on: expected no other option: it writes the weights as they are, in float32")
        export_to_train_on(state, options.output)
    else:
        dtype = "float32" if options.float32 else "float16"
        labels = not options.unconditional
        export(state, options.output, labels=labels, dtype=dtype, guidance=options.guidance)
    print(f"wrote {options.output}")
    return 0


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m engine.training", description="Train a DiffWave network.")
    commands = top.add_subparsers(required=True, metavar="COMMAND", dest="command")
    fit = commands.add_parser("fit", help="train by a recipe, or go on with an interrupted training")
    fit.add_argument("recipe", metavar="RECIPE", help="a TOML file, or the name of a bundled recipe")
    fit.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder of the recordings")
    text = "of its state and log (default: NAME-training for a recipe NAME or NAME.toml)"
    fit.add_argument("--folder", type=Path, metavar="DIR", help=text)
    fit.add_argument("--init", type=Path, metavar="CKPT", help="begin from a checkpoint, or from a training's state")
    fit.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    fit.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto", help="of the residual layers")
    fit.add_argument("--threads", type=int, metavar="N", help="of a CPU, per process")
    fit.add_argument("--validate-every", type=int, default=1000, metavar="STEPS", help="0 for never (default: 1000)")
    export = commands.add_parser("export", help="write what was learnt as a file for engine.load")
    export.add_argument("folder", metavar="DIR", type=Path, help="of a training (or its state.safetensors)")
    export.add_argument("-o", "--output", required=True, metavar="OUT", type=Path, help="the .safetensors to write")
    export.add_argument("--to-train-on", action="store_true", help="write what another training can begin from")
    export.add_argument("--unconditional", action="store_true", help="what a network with labels learnt without them")
    text = "of a network with labels, what engine.generate uses (default: the recipe's, or 1)"
    export.add_argument("--guidance", type=float, metavar="W", help=text)
    export.add_argument("--float32", action="store_true", help="twice the size (default: float16)")
    return top


if __name__ == "__main__":
    sys.exit(main())
