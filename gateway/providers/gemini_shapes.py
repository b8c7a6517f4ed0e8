"""The bodies of Gemini's generateContent and interactions: how they are written, and where their media stand.

Sources: https://ai.google.dev/gemini-api/docs/image-generation, …/interactions-overview, …/file-input-methods;
googleapis/python-genai `types.py` (FinishReason) and `interaction.py`. JSON comes in camelCase and in snake_case.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.providers import GenerateRequest, MediaItem, MediaType, Role
from gateway.providers.calling import clean
from gateway.providers.walking import decode_base64

Json = Mapping[str, Any]

# The parameters a client may give; all else, a webhook of its own above all, is not passed on.
IMAGE_CONFIG: Final = {
    "aspect_ratio": "aspectRatio",
    "aspectRatio": "aspectRatio",
    "image_size": "imageSize",
    "imageSize": "imageSize",
}
RESPONSE_FORMAT: Final = ("resolution", "aspect_ratio", "duration", "image_size", "delivery")
REFERENCES: Final = {"images": "image", "image_urls": "image", "videos": "video", "video_urls": "video"}
_PCM = re.compile(r"audio/L16\b.*\brate=([0-9]{4,6})", re.IGNORECASE)
_KINDS: Final[Mapping[str, Role]] = {"image": "image", "video": "video", "audio": "audio"}


def generation(request: GenerateRequest) -> dict[str, Any]:
    """Write the body of generateContent for an image."""
    parts: list[dict[str, Any]] = [{"text": request.prompt}] if request.prompt else []
    parts += [{"fileData": {"fileUri": url}} for _, url in _references(request.options)]
    config: dict[str, Any] = {"responseModalities": ["IMAGE"]}
    image = {theirs: request.options[ours] for ours, theirs in IMAGE_CONFIG.items() if ours in request.options}
    if image:
        config["imageConfig"] = image
    return {"contents": [{"role": "user", "parts": parts}], "generationConfig": config}


def creation(request: GenerateRequest) -> dict[str, Any]:
    """Write the body of an interaction that runs in the background and is kept, so that it can be asked for."""
    kind = "audio" if request.media_type == "music" else request.media_type
    shape: dict[str, Any] = {"type": kind, "delivery": "inline" if kind == "image" else "uri"}
    shape |= {name: request.options[name] for name in RESPONSE_FORMAT if name in request.options}
    references = [{"type": kind, "uri": url} for kind, url in _references(request.options)]
    body: dict[str, Any] = {
        "model": request.model,
        "input": [{"type": "text", "text": request.prompt}, *references] if references else request.prompt,
        "response_format": shape,
        "background": True,
        "store": True,
    }
    if isinstance(config := request.options.get("generation_config"), Mapping):
        body["generation_config"] = dict(config)
    return body


def generated_media(body: Json) -> list[MediaItem]:
    """Read the images of a generateContent; those marked as thoughts are drafts of the last one."""
    media: list[MediaItem] = []
    for candidate in _entries(body.get("candidates")):
        for part in _entries(_inside(candidate, "content").get("parts")):
            inline = _inside(part, "inlineData") or _inside(part, "inline_data")
            content = None if part.get("thought") else decode_base64(inline.get("data"))
            if content:
                declared = inline.get("mimeType") or inline.get("mime_type")
                media.append(MediaItem("image", len(media), inline=content, media_type=_text(declared)))
    return media


def refusal(body: Json) -> tuple[str, str]:
    """Say why a 200 carries no image: the prompt was refused, or the output was."""
    feedback = _inside(body, "promptFeedback") or _inside(body, "prompt_feedback")
    if reason := _text(feedback.get("blockReason") or feedback.get("block_reason")):
        return f"gemini_{clean(reason).lower()}"[:64], "The prompt was refused"
    for candidate in _entries(body.get("candidates")):
        reason = _text(candidate.get("finishReason") or candidate.get("finish_reason"))
        if reason and reason != "STOP":
            words = candidate.get("finishMessage") or candidate.get("finish_message")
            return f"gemini_{clean(reason).lower()}"[:64], clean(words) or "The model made no image"
    return "no_media", "The model made no image"


def interaction_media(interaction: Json, media_type: MediaType) -> list[MediaItem]:
    """Read the media of the last turn, or the `output_…` fields that some answers have instead."""
    steps = _entries(interaction.get("steps"))
    asked = [number for number, step in enumerate(steps) if step.get("type") == "user_input"]
    turn = steps[asked[-1] + 1 :] if asked else steps
    contents = [content for step in turn if step.get("type") == "model_output" for content in _outputs(step)]
    if not any(content.get("type") in _KINDS for content in contents):
        found = {kind: _inside(interaction, f"output_{kind}") for kind in _KINDS}
        contents = [{"type": kind, **content} for kind, content in found.items() if content]
    counts: Counter[Role] = Counter()
    media: list[MediaItem] = []
    for content in contents:
        if item := _item(content, counts, media_type):
            counts[item.role] += 1
            media.append(item)
    return media


def _item(content: Json, counts: Counter[Role], media_type: MediaType) -> MediaItem | None:
    role = _KINDS.get(str(content.get("type")))
    if role is None:
        return None
    role = "song" if role == "audio" and media_type == "music" else role
    declared = _text(content.get("mime_type") or content.get("mimeType"))
    inline = decode_base64(content.get("data")) if content.get("data") else None
    uri = _text(content.get("uri"))
    if inline and (found := _PCM.match(declared or "")):
        return MediaItem(role, counts[role], inline=_wav(inline, int(found[1])), media_type="audio/wav")
    if inline:
        return MediaItem(role, counts[role], inline=inline, media_type=declared)
    # gs:// names a bucket, which no HTTP download reaches.
    if uri and uri.startswith(("https://", "http://")):
        return MediaItem(role, counts[role], url=uri, media_type=declared)
    return None


def _wav(samples: bytes, rate: int) -> bytes:
    """Put a WAV head before bare samples (16 bits, mono, as older speech models send them)."""
    head = struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        36 + len(samples),
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        rate,
        rate * 2,
        2,
        16,
        b"data",
        len(samples),
    )
    return head + samples


def _references(options: Json) -> Iterator[tuple[str, str]]:
    for name, kind in REFERENCES.items():
        value = options.get(name)
        for url in value if isinstance(value, Sequence) and not isinstance(value, str) else [value]:
            if isinstance(url, str) and url:
                yield kind, url


def _outputs(step: Json) -> list[Json]:
    return _entries(step.get("content"))


def _entries(value: object) -> list[Json]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _inside(value: Json, name: str) -> Json:
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
