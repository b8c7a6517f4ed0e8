"""What a task's owner is told of its media: pure functions from copies to `taskInfo` and `taskResult`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.clock import iso
from gateway.metadata.task_records import Copy, CopyState
from gateway.model import REF_PREFIX

_LISTS: Final = {"image": "images", "video": "videos", "audio": "songs", "music": "songs"}  # by the task's media type
_MAIN: Final = {  # by role: the list it stands in, and the name of its reference there
    "image": ("images", "imageUrl"),
    "video": ("videos", "videoUrl"),
    "audio": ("songs", "audioUrl"),
    "song": ("songs", "audioUrl"),
}
_SIDE: Final = {("cover", "songs"): "imageUrl"}  # a song's cover is its picture; all others are thumbnails
_OURS: Final = {"id", "createTime", "imageUrl", "videoUrl", "audioUrl", "thumbnailUrl"}


def progress_info(media_type: str, status: str, progress: float | None = None) -> dict[str, Any]:
    """Tell of a task without media yet."""
    known = {} if progress is None else {"progress": round(progress, 4)}
    return {_LISTS[media_type]: [], "status": status, "errorCode": None, "errorMessage": None, **known}


def copying_info(media_type: str, copies: Sequence[Copy]) -> dict[str, Any]:
    """Tell how far the copying is."""
    stored = sum(copy.state is CopyState.STORED for copy in copies)
    return {**progress_info(media_type, "copying"), "copied": stored, "toCopy": len(copies)}


def info(
    media_type: str, status: str, copies: Sequence[Copy], error: tuple[str | None, str | None] = (None, None)
) -> dict[str, Any]:
    """Write `taskInfo` of a finished task: what is stored, each with its thumbnail or cover, by reference."""
    told: dict[str, Any] = progress_info(media_type, status)
    stored = [copy for copy in copies if copy.state is CopyState.STORED]
    for copy in sorted((copy for copy in stored if copy.role in _MAIN), key=lambda copy: (copy.role, copy.ordinal)):
        where, name = _MAIN[copy.role]
        entry = {
            "id": copy.asset_id,
            "createTime": iso(copy.updated_at),
            name: _ref(copy),
            **_beside(copy, where, stored),
            **{key: value for key, value in copy.details.items() if key not in _OURS},
        }
        told.setdefault(where, []).append(entry)
    told["errorCode"], told["errorMessage"] = error
    return told


def result(copies: Sequence[Copy]) -> dict[str, Any]:
    """Write `taskResult`: every item as it was recorded."""
    return {"media": [_item(copy) for copy in copies]}


def failure(copies: Sequence[Copy]) -> Copy | None:
    """Return the item that makes the task fail: a main one before those beside it."""
    failed = [copy for copy in copies if copy.state is CopyState.FAILED]
    return min(failed, key=lambda copy: (copy.role not in _MAIN, copy.role, copy.ordinal), default=None)


def _beside(main: Copy, where: str, stored: Sequence[Copy]) -> Mapping[str, str]:
    sides = [copy for copy in stored if copy.role in ("thumbnail", "cover") and copy.ordinal == main.ordinal]
    return {_SIDE.get((copy.role, where), "thumbnailUrl"): _ref(copy) for copy in sides}


def _item(copy: Copy) -> dict[str, Any]:
    item: dict[str, Any] = {"role": copy.role, "ordinal": copy.ordinal}
    if copy.state is CopyState.STORED:
        facts = {"mimeType": copy.media_type, "sizeBytes": copy.size, "sha256": copy.sha256}
        return {**item, "assetRef": _ref(copy), **facts}
    return {**item, "error": copy.reason}


def _ref(copy: Copy) -> str:
    return REF_PREFIX + copy.asset_id
