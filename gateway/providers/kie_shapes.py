"""The seven shapes of Kie's API, as one table: where each is created and asked, and what its answers mean.

Source: docs.kie.ai, market/, veo3-api/, suno-api/, 4o-image-api/, flux-kontext-api/ and runway-api/. Media are read
from the answers to queries alone; what a callback carries is not signed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.providers import MAIN_ROLE, MediaItem, MediaType, Role, Status
from gateway.providers.walking import kind_of_url

Data = Mapping[str, Any]

JOB_STATES: Final[Mapping[str, Status]] = {
    "waiting": "pending",
    "queuing": "pending",
    "generating": "processing",
    "success": "success",
    "fail": "failed",
}
RUNWAY_STATES: Final[Mapping[str, Status]] = {  # spelled differently from the jobs
    "wait": "pending",
    "queueing": "pending",
    "generating": "processing",
    "success": "success",
    "fail": "failed",
}
SUCCESS_FLAGS: Final[Mapping[str, Status]] = {"0": "processing", "1": "success", "2": "failed", "3": "failed"}
IMAGE_4O_STATUSES: Final[Mapping[str, Status]] = {
    "GENERATING": "processing",
    "SUCCESS": "success",
    "CREATE_TASK_FAILED": "failed",
    "GENERATE_FAILED": "failed",
}
SUNO_STATUSES: Final[Mapping[str, Status]] = {
    "PENDING": "pending",
    "TEXT_SUCCESS": "processing",
    "FIRST_SUCCESS": "processing",
    "SUCCESS": "success",
    "CREATE_TASK_FAILED": "failed",
    "GENERATE_AUDIO_FAILED": "failed",
    "SENSITIVE_WORD_ERROR": "failed",
    "CALLBACK_EXCEPTION": "processing",  # it was the callback that failed: `_suno_status` looks for the songs
}


@dataclass(frozen=True, slots=True)
class Shape:
    """One of the families. `nested` ones take the model's parameters in `input`, the others beside the prompt."""

    name: str
    models: re.Pattern[str]
    create: str
    query: str
    status: Callable[[Data], Status]
    media: Callable[[Data, MediaType], Iterator[MediaItem]]
    nested: bool = False
    names_model: bool = True


def shape_of(model: str) -> Shape:
    """Find the shape by the model's name; whatever has no endpoint of its own is a job of the market."""
    return next(shape for shape in SHAPES if shape.models.match(model))


def _by(table: Mapping[str, Status], name: str) -> Callable[[Data], Status]:
    """Read one field; a word that the table does not know means still running."""
    return lambda data: table.get(str(data.get(name)), "processing")


def _aleph_status(data: Data) -> Status:
    """Judge Aleph, whose 0 is both failed and still running: a code tells them apart."""
    if str(data.get("successFlag")) == "1":
        return "success"
    return "failed" if str(data.get("errorCode") or 0) not in {"0", ""} else "processing"


def _image_4o_status(data: Data) -> Status:
    table, name = (IMAGE_4O_STATUSES, "status") if data.get("status") else (SUCCESS_FLAGS, "successFlag")
    return _by(table, name)(data)


def _suno_status(data: Data) -> Status:
    songs = _entries(_inside(data, "response").get("sunoData"))
    if data.get("status") == "CALLBACK_EXCEPTION" and songs and all(song.get("audioUrl") for song in songs):
        return "success"
    return _by(SUNO_STATUSES, "status")(data)


def _job_media(data: Data, media_type: MediaType) -> Iterator[MediaItem]:
    result = _decoded(data.get("resultJson"))
    main = list(_urls(result.get("resultUrls"), media_type))
    yield from main
    yield from _as(result.get("firstFrameUrl"), "thumbnail")
    yield from _as(result.get("lastFrameUrl"), "image", sum(item.role == "image" for item in main))


def _result_urls(data: Data, media_type: MediaType) -> Iterator[MediaItem]:
    response = _inside(data, "response")
    yield from _urls(response.get("fullResultUrls") or response.get("resultUrls"), media_type)


def _flux_media(data: Data, media_type: MediaType) -> Iterator[MediaItem]:  # noqa: ARG001 - the table's signature
    yield from _as(_inside(data, "response").get("resultImageUrl"), "image")


def _runway_media(data: Data, media_type: MediaType) -> Iterator[MediaItem]:  # noqa: ARG001 - the table's signature
    info = _inside(data, "videoInfo")
    yield from _as(info.get("videoUrl"), "video")
    yield from _as(info.get("imageUrl"), "thumbnail")


def _aleph_media(data: Data, media_type: MediaType) -> Iterator[MediaItem]:  # noqa: ARG001 - the table's signature
    response = _inside(data, "response")
    yield from _as(response.get("resultVideoUrl"), "video")
    yield from _as(response.get("resultImageUrl"), "thumbnail")


def _suno_media(data: Data, media_type: MediaType) -> Iterator[MediaItem]:
    songs = _entries(_inside(data, "response").get("sunoData"))
    for number, song in enumerate(song for song in songs if _is_url(song.get("audioUrl"))):
        details = {name: song[name] for name in ("title", "duration", "tags") if song.get(name)}
        yield MediaItem(MAIN_ROLE[media_type], number, song["audioUrl"], details=details)
        if _is_url(song.get("imageUrl")):
            yield MediaItem("cover", number, song["imageUrl"])


def _urls(value: object, media_type: MediaType) -> Iterator[MediaItem]:
    """Yield the main items of a list; what is plainly of another kind keeps that kind."""
    counts: dict[Role, int] = {}
    for url in filter(_is_url, value if isinstance(value, list) else [value]):
        kind = kind_of_url(url)
        role = MAIN_ROLE[media_type] if kind is None or (kind == "audio" and media_type == "music") else kind
        counts[role] = counts.get(role, -1) + 1
        yield MediaItem(role, counts[role], url)


def _as(value: object, role: Role, first: int = 0) -> Iterator[MediaItem]:
    for number, url in enumerate(filter(_is_url, value if isinstance(value, list) else [value]), first):
        yield MediaItem(role, number, url)


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("https://", "http://"))


def _inside(data: Data, name: str) -> Data:
    value = data.get(name)
    return value if isinstance(value, dict) else {}


def _entries(value: object) -> list[Data]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _decoded(text: object) -> Data:
    """Read the JSON that stands in a string."""
    try:
        value = orjson.loads(text) if isinstance(text, str) else text
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


_API = "/api/v1"
SHAPES: Final = (
    Shape(
        "veo",
        re.compile(r"veo3[a-z0-9_.-]*\Z"),
        f"{_API}/veo/generate",
        f"{_API}/veo/record-info",
        _by(SUCCESS_FLAGS, "successFlag"),
        _result_urls,
    ),
    Shape(
        "suno",
        re.compile(r"V[0-9][A-Z0-9_]*\Z"),
        f"{_API}/generate",
        f"{_API}/generate/record-info",
        _suno_status,
        _suno_media,
    ),
    Shape(
        "4o-image",
        re.compile(r"(gpt-?)?4o-image\Z"),
        f"{_API}/gpt4o-image/generate",
        f"{_API}/gpt4o-image/record-info",
        _image_4o_status,
        _result_urls,
        names_model=False,
    ),
    Shape(
        "flux-kontext",
        re.compile(r"flux-kontext-[a-z]+\Z"),
        f"{_API}/flux/kontext/generate",
        f"{_API}/flux/kontext/record-info",
        _by(SUCCESS_FLAGS, "successFlag"),
        _flux_media,
    ),
    Shape(
        "aleph",
        re.compile(r"(runway-)?aleph\Z"),
        f"{_API}/aleph/generate",
        f"{_API}/aleph/record-info",
        _aleph_status,
        _aleph_media,
        names_model=False,
    ),
    Shape(
        "runway",
        re.compile(r"runway\Z"),
        f"{_API}/runway/generate",
        f"{_API}/runway/record-detail",
        _by(RUNWAY_STATES, "state"),
        _runway_media,
        names_model=False,
    ),
    Shape(
        "jobs",
        re.compile(r""),
        f"{_API}/jobs/createTask",
        f"{_API}/jobs/recordInfo",
        _by(JOB_STATES, "state"),
        _job_media,
        nested=True,
    ),
)
