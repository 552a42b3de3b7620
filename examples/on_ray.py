"""Vocode a folder on a Ray cluster: python examples/on_ray.py IN OUT [ADDRESS].

ADDRESS is "auto" for the cluster of this machine (the default), "host:port", or "local" to start one. The folders have
the same paths on all nodes. Needs the extra `ray`.
"""

from __future__ import annotations

import sys

import engine


def main() -> None:
    """Vocode the folder with as many actors as the cluster has processors."""
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python examples/on_ray.py IN OUT [ADDRESS]")
    address = sys.argv[3] if len(sys.argv) == 4 else "auto"
    print(engine.vocode_files(sys.argv[1], sys.argv[2], device="cpu", precision="fp32", ray=address))


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, RuntimeError) as error:  # the engine's errors are of these kinds
        sys.exit(f"on_ray: {error}")
