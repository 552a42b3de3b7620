"""The command `engine serve`: a voice behind HTTP and WebSockets, and a page."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import socket
import warnings
from pathlib import Path

import engine
from engine.checks.arguments import check_count
from engine.cli.messages import add_messages, notice, say
from engine.cli.options import add_energy_min, add_execution, add_mel_kind, add_model, add_steps, add_weights, load
from engine.cli.parsing import Commands, integer, number
from engine.diffusion.schedule import build_schedule
from engine.errors import CheckpointError, InputError, UnavailableError
from engine.kernels import registry
from engine.serving import Limits, app, check_installed
from engine.voice import Voice

NONE = "none"
GPU_SLOTS = 32


def add_command(commands: Commands) -> None:
    """Add `serve` to the program.

    Args:
        commands: the program's commands.
    """
    parser = commands.add(
        "serve",
        _run,
        usage="[OPTION ...]",
        summary="serve a voice over HTTP and WebSockets, with a page to hear it",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    address = parser.add_argument_group("address")
    address.add_argument(
        "--host", default="127.0.0.1", metavar="HOST", help="address to listen on (default: 127.0.0.1)"
    )
    address.add_argument(
        "--port", type=integer, default=8000, metavar="PORT", help="port; 0 takes a free one (default: 8000)"
    )
    address.add_argument(
        "--token",
        metavar="TOKEN",
        help="requests need it as a bearer token; @FILE reads it from a file (default: none)",
    )
    address.add_argument("--tls-cert", metavar="FILE", help="certificates in PEM, for HTTPS (default: HTTP)")
    address.add_argument("--tls-key", metavar="FILE", help="private key of --tls-cert")
    bounds = parser.add_argument_group("load")
    bounds.add_argument(
        "--slots",
        type=integer,
        metavar="N",
        help="calls at work at once, which share the threads (default: one per two threads; on a GPU 32)",
    )
    bounds.add_argument(
        "--queue",
        type=integer,
        default=8,
        metavar="N",
        help="calls that may wait; one more gets status 429 (default: 8)",
    )
    bounds.add_argument(
        "--max-seconds", type=number, default=120, metavar="S", help="longest audio of a request (default: 120)"
    )
    network = parser.add_argument_group("network")
    add_model(network, None)
    add_mel_kind(network)
    add_weights(network)
    network.add_argument(
        "--generator",
        default="digits",
        metavar="CKPT",
        help="a network without a mel for /v1/generate, or none (default: digits)",
    )
    sampling = parser.add_argument_group("sampling")
    add_steps(sampling, "fast")
    add_energy_min(sampling)
    add_execution(parser)
    add_messages(parser, quiet=True)


def _run(arguments: argparse.Namespace) -> None:
    check_installed()
    from engine.serving.server import listen, serve

    token = _token(arguments.token)
    if (arguments.tls_cert is None) != (arguments.tls_key is None):
        raise InputError("--tls-key: expected it together with --tls-cert, got one of the two")
    if not 0 <= arguments.port <= 65535:
        raise InputError(f"--port: expected 0 to 65535, got {arguments.port}")
    with listen(arguments.host, arguments.port) as listening:
        if token is None and not _is_loopback(listening):
            say(f"warning: --host {arguments.host}: everybody who reaches this machine can use it; pass --token")
        voice = load(arguments)
        slots = _slots(arguments, voice)
        if not voice.config.n_mels and slots > 1 and voice.choice.device == "cpu":
            arguments.threads = voice.threads // slots  # a call takes all threads of its voice
            voice = load(arguments)
        limits = Limits(slots=slots, queue=arguments.queue, max_seconds=arguments.max_seconds)
        build_schedule(voice.config, arguments.steps)
        application = app(
            voice,
            generator=_generator(arguments, voice, slots),
            precisions=_precisions(arguments, voice),
            limits=limits,
            steps=arguments.steps,
            energy_min=arguments.energy_min,
            token=token,
            name=Path(str(arguments.model_name or "voice")).stem,
        )
        notice(
            f"{arguments.model_name or 'voice'}: {voice.config.summary()}; {_execution(voice)}, {_count(slots, 'slot')}"
        )
        if voice.config.n_mels:
            notice(_speed(arguments, voice, slots))
        if not arguments.quiet:
            logging.getLogger("engine.serving").setLevel(logging.INFO)

        def started(port: int) -> None:
            scheme = "http" if arguments.tls_cert is None else "https"
            host = f"[{arguments.host}]" if ":" in arguments.host else arguments.host
            notice(f"listening on {scheme}://{host}:{port}/")

        serve(application, listening, started=started, tls_cert=arguments.tls_cert, tls_key=arguments.tls_key)
    notice("ended")


def _slots(arguments: argparse.Namespace, voice: Voice) -> int:
    if voice.choice.device != "cpu":
        return GPU_SLOTS if arguments.slots is None else check_count(arguments.slots, "slots")
    if arguments.slots is None:
        return max(1, voice.threads // 2)
    slots = check_count(arguments.slots, "slots")
    if slots > voice.threads:
        raise InputError(f"--slots: expected at most {voice.threads}, one per thread, got {slots}")
    return slots


def _precisions(arguments: argparse.Namespace, voice: Voice) -> dict[str, Voice]:
    """Load the voice in its other precisions on a CPU, unless one was requested."""
    voices: dict[str, Voice] = {}
    if arguments.precision != "auto" or voice.choice.device != "cpu" or not voice.config.n_mels:
        return voices
    for precision in registry.CPU_PRECISIONS:
        if precision != voice.choice.precision:
            arguments.precision = precision
            try:
                voices[precision] = load(arguments)
            except (InputError, UnavailableError):
                continue  # this machine or this checkpoint has not got it
    arguments.precision = "auto"
    return voices


def _generator(arguments: argparse.Namespace, voice: Voice, slots: int) -> Voice | None:
    """Load the network without a mel, whose calls share the threads."""
    if arguments.generator == NONE or not voice.config.n_mels:
        return None
    threads = max(1, voice.threads // slots)
    try:
        with warnings.catch_warnings():
            return engine.load(arguments.generator, device=arguments.device, threads=threads, isa=arguments.isa)
    except CheckpointError as error:
        if arguments.generator != "digits":
            raise CheckpointError(str(error).replace("model: ", "--generator: ", 1)) from None
        return None  # this installation has no digits


def _speed(arguments: argparse.Namespace, voice: Voice, slots: int) -> str:
    from engine.serving.measure import measure

    real_time = measure(voice, arguments.steps, arguments.energy_min)
    streams = int(real_time.times)
    able = f"about {_count(streams, 'stream')} at once" if streams else "too slow for a stream in real time"
    limit = f"; --slots {slots} takes {_count(slots, 'call')} at a time" if streams > slots else ""
    return f"{real_time.times:.2g}x real time here: {able}{limit}"


def _execution(voice: Voice) -> str:
    return f"{voice.choice.precision} on {voice.choice.isa}, {_count(voice.threads, 'thread')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _token(text: str | None) -> str | None:
    if text is None or not text.startswith("@"):
        return text
    return Path(text[1:]).read_text().strip()


def _is_loopback(listening: socket.socket) -> bool:
    return ipaddress.ip_address(listening.getsockname()[0].partition("%")[0]).is_loopback


_DESCRIPTION = """\
The page at / needs nothing else: it plays the demo, a recording or a mel, and
spoken digits. The routes for programs are POST /v1/vocode, WS /v1/stream, POST
/v1/generate, GET /v1/models, /healthz, /readyz, /metrics and /openapi.json;
docs/serving.md describes them. All ways give the samples of 'engine vocode'.

A call holds a slot while it works, and --queue calls may wait for one. One more
gets status 429 and the seconds after which a slot is likely to be free. A
client that leaves frees its slot.

At the start the voice is timed. The log has a line per request on stderr,
unless --quiet is passed. On SIGTERM or Ctrl-C the calls that were taken are
finished, new ones are refused, and the exit status is 0.

Needs the extra 'serve'. Streams need a voice on a CPU.
"""

_EXAMPLES = """\
engine serve
engine serve --port 8080 --model voice.safetensors --steps 3
engine serve --host 0.0.0.0 --token @token.txt --slots 2 --queue 16
engine serve --host 0.0.0.0 --token @token.txt
engine serve --port 8443 --tls-cert cert.pem --tls-key key.pem
"""
