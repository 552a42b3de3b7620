"""Messages of the library in the terms of the command line."""

from __future__ import annotations

import pytest

from engine.cli.main import build_parser
from engine.cli.wording import names_of, translate

VOCODE = "vocode mel.npy -o out.wav"
STDIN = "vocode - -o -"
CONVERT = "convert weights.pt -o out.safetensors --calibrate a.npy b.npy"


@pytest.mark.parametrize(
    ("command", "message", "expected"),
    [
        # The subject
        (VOCODE, "steps: expected X, got 7", "--steps: expected X, got 7"),
        (VOCODE, "mel_kind: expected X", "--mel-kind: expected X"),
        (VOCODE, "mel: expected finite values", "mel.npy: expected finite values"),
        (VOCODE, "audio: expected more than 512 samples", "mel.npy: expected more than 512 samples"),
        (STDIN, "mels: expected at least one frame, got none", "stdin: expected at least one frame, got none"),
        (STDIN, "mels, piece 3: mel: expected X", "stdin, piece 3: expected X"),
        (CONVERT, "mel[1]: expected X", "b.npy: expected X"),
        (CONVERT, "mel: expected X", "a.npy: expected X"),
        (CONVERT, "model: expected a file", "CKPT: expected a file"),
        ("interpolate a.wav c.wav -o o.wav", "b: expected samples", "c.wav: expected samples"),
        ("generate -o out", "samples: expected X", "--seconds: expected X"),
        (VOCODE, "path: 'in.wav': expected X", "in.wav: expected X"),
        (VOCODE, 'path: "it\'s.wav": expected X', "it's.wav: expected X"),
        (VOCODE, "weights.pt: expected X", "weights.pt: expected X"),
        (VOCODE, "expected X", "expected X"),
        # A value in the subject's place
        (VOCODE, "precision: 'int8' needs ranges", "--precision int8 needs ranges"),
        (VOCODE, "mel: 'a' is", "mel.npy: 'a' is"),
        # Remedies and choices
        (VOCODE, "isa: X; use precision='auto' or 'fp32'", "--isa: X; use --precision auto or fp32"),
        (VOCODE, "isa: X; leave isa out", "--isa: X; leave --isa out"),
        (VOCODE, "device: X; device='cpu' can", "--device: X; --device cpu can"),
        (VOCODE, "mel: X; pass mel_kind=", "mel.npy: X; pass --mel-kind"),
        ("mel in.wav -o out.npy", "config: X; pass mel_kind=", "--model: X; pass --kind"),
        (VOCODE, 'steps: expected 1 to 6 or 50, "full", got 7', '--steps: expected 1 to 6 or 50, "full", got 7'),
        (
            VOCODE,
            "steps: expected 1 to 6 or 50, betas of your own as schedule= (in Python) with alpha_bar up to 1, got 7",
            "--steps: expected 1 to 6 or 50, got 7",
        ),
        (
            VOCODE,
            "steps='fast': beta X; choices: steps=1 to 6, 'x'",
            "--steps fast: beta X; choices: --steps 1 to 6, 'x'",
        ),
        (VOCODE, "mel: X, got (12, 80); pass mel.T", "mel.npy: X, got (12, 80); transpose it"),
        (VOCODE, "mel: X; use engine.mel(audio, rate, kind='lmnt')", "mel.npy: X; use 'engine mel --kind lmnt'"),
        (VOCODE, "stream: X; use generate()", "--stream: X; use 'engine generate'"),
        (VOCODE, "isa: X; expected None or 'sm_90a'", "--isa: X; expected no --isa or 'sm_90a'"),
        ("denoise a.wav -o b.wav", "label: expected one of '7', got None", "--label: expected one of '7', got none"),
        # Names of other programs and arguments that the command does not have
        (VOCODE, "mel: X; ffmpeg -i IN rate=3", "mel.npy: X; ffmpeg -i IN rate=3"),
        ("doctor", "steps: expected steps=6", "steps: expected steps=6"),
    ],
)
def test_translate(command: str, message: str, expected: str) -> None:
    names = names_of(build_parser().parse_args(command.split()))
    assert translate(message, names) == expected
