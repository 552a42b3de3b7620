"""The description of the routes in the format of OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

import engine
from engine.serving.bodies import JSON, NPY, RAW, WAV
from engine.serving.options import FORMATS
from engine.serving.service import Service
from engine.voice.draft import DRAFTS, RTISI_LA

Json = dict[str, Any]


def description(service: Service) -> Json:
    """Return the description of a service.

    Args:
        service: the service.
    """
    secured: list[Json] = [{"token": []}] if service.needs_token else []
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "diffwave-engine",
            "version": engine.__version__,
            "description": "Mel spectrograms to speech. WS /v1/stream, which OpenAPI cannot describe, takes frames as "
            "they are written; docs/serving.md describes its messages.",
        },
        "security": secured,
        "paths": {
            "/v1/vocode": {"post": _vocode()},
            "/v1/generate": {"post": _generate()},
            "/v1/mel": {"post": _analyze()},
            "/v1/griffin-lim": {"post": _invert()},
            "/v1/models": {"get": _get("The networks, their options and the limits", JSON[0])},
            "/healthz": {"get": _get("Whether the process answers", "text/plain")},
            "/readyz": {"get": _get("Whether it takes new calls; 503 while it ends", "text/plain")},
            "/metrics": {"get": _get("Measurements for Prometheus", "text/plain")},
        },
        "components": {
            "schemas": {"Problem": _PROBLEM},
            "responses": {"Problem": {"description": "RFC 9457", "content": _PROBLEM_CONTENT}},
            **({"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}} if secured else {}),
        },
    }


def _vocode() -> Json:
    precision = _option("precision", "one of the precisions in /v1/models", {"type": "string"})
    stream = _option("stream", "1 sends audio as it becomes final", {"enum": ["0", "1"], "default": "0"})
    text = f"a waveform that the last steps refine; beside stream=1, {RTISI_LA}"
    draft = _option("draft", text, {"enum": list(DRAFTS)})
    text = "the largest gain of a band towards the mel, a number from 1 on or inf"
    match = _option("match_mel", text, {"type": "string"})
    return {
        "summary": "A mel spectrogram or a recording to audio: the bytes of Voice.vocode",
        "parameters": [*_common(), draft, match, precision, stream],
        "requestBody": {"required": True, "content": _MEL},
        "responses": _responses(_AUDIO),
    }


def _generate() -> Json:
    label = _option("label", "a class of the network, or its first word", {"type": "string"})
    guidance = _option("guidance", "weight of classifier-free guidance", {"type": "number"})
    text = "scales the noise, 0 to 1: less gives clearer sound of less variety"
    temperature = _option("temperature", text, {"type": "number"})
    seconds = _option("seconds", "length of the sound", {"type": "number"})
    return {
        "summary": "A sound without a mel, such as a spoken digit",
        "parameters": [*_common(), label, guidance, temperature, seconds],
        "requestBody": {"required": False, "content": {JSON[0]: {"schema": {"type": "object"}}}},
        "responses": _responses(_AUDIO),
    }


def _analyze() -> Json:
    return {
        "summary": "The mel of a recording, as raw frames for WS /v1/stream",
        "requestBody": {"required": True, "content": {WAV[0]: _BINARY}},
        "responses": _responses({RAW[0]: _BINARY}),
    }


def _invert() -> Json:
    return {
        "summary": "Griffin-Lim of the same mel, a baseline without a network",
        "parameters": [parameter for parameter in _common() if parameter["name"] != "steps"],
        "requestBody": {"required": True, "content": _MEL},
        "responses": _responses(_AUDIO),
    }


def _get(summary: str, kind: str) -> Json:
    return {"summary": summary, "responses": _responses({kind: {}})}


def _common() -> list[Json]:
    return [
        _option("seed", "of the noise", {"type": "integer", "minimum": 0, "default": 0}),
        _option("steps", "fast, full, or a number in /v1/models", {"type": "string"}),
        _option("format", "of PCM samples", {"enum": list(FORMATS), "default": "s16"}),
    ]


def _option(name: str, meaning: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": meaning, "schema": schema}


def _responses(content: Json) -> Json:
    return {
        "200": {"description": "success", "content": content},
        "default": {"$ref": "#/components/responses/Problem"},
    }


_BINARY: Json = {"schema": {"type": "string", "format": "binary"}}
_MEL: Json = {
    NPY[0]: _BINARY,
    RAW[0]: _BINARY,
    WAV[0]: _BINARY,
    JSON[0]: {
        "schema": {
            "type": "object",
            "required": ["mel"],
            "properties": {"mel": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}},
        }
    },
}
_AUDIO: Json = {"audio/wav": _BINARY, "audio/pcm": _BINARY}
_PROBLEM: Json = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
    },
}
_PROBLEM_CONTENT: Json = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
