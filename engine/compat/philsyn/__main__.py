"""The program `python -m engine.compat.philsyn`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from engine.compat.philsyn import generate
from engine.errors import CheckpointError, InputError, UnavailableError

PROGRAM = "python -m engine.compat.philsyn"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments; None for those of the process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Generate audio as philsyn's inference.py does.")
    parser.add_argument("-c", "--config", default="config.json", help="JSON file for configuration")
    parser.add_argument("-ckpt_iter", "--ckpt_iter", default="max", help='which checkpoint: a number or "max"')
    parser.add_argument("-cond", "--condition_name", help="name of the mel to be conditioned on, of a vocoder")
    parser.add_argument("-n", "--num_samples", type=int, default=4, help="number of clips, without a mel (default: 4)")
    parser.add_argument("--steps", default="full", help="full, fast or a number of steps (default: full)")
    parser.add_argument("--seed", type=int, help="seed of the noise (default: a new one)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--precision", default="fp32", help="as in 'engine vocode' (default: fp32, as the original)")
    parser.add_argument("--threads", type=int, help="maximum number of CPU threads")
    options = vars(parser.parse_args(argv))
    if options["steps"].isdecimal():
        options["steps"] = int(options["steps"])
    if options["ckpt_iter"] != "max" and not options["ckpt_iter"].isdecimal():
        parser.error(f"-ckpt_iter: expected a number or max, got {options['ckpt_iter']!r:.80}")
    try:
        files = generate(**options)
    except (CheckpointError, InputError, UnavailableError) as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2
    for file in files:
        print(f"wrote {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
