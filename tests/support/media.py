"""Small real media files, made by ffmpeg once a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.servers import processes

SECONDS = 10
_PICTURE = ("-f", "lavfi", "-i", "testsrc=size=320x240:rate=1:duration=1", "-frames:v", "1")
_FILM = ("-f", "lavfi", "-i", f"testsrc=size=320x240:rate=15:duration={SECONDS}")
_SOUND = ("-f", "lavfi", "-i", f"sine=frequency=440:duration={SECONDS}")
_H264 = (*_FILM, *_SOUND, "-c:v", "libx264", "-preset", "ultrafast", "-g", "15", "-pix_fmt", "yuv420p", "-c:a", "aac")


@dataclass(frozen=True)
class Media:
    """The files by kind; each is of the type that its name says, and `SECONDS` long where it has a length."""

    jpeg: Path
    png: Path
    gif: Path
    webp: Path
    mp4: Path  # the index is at the end: a player must jump there before it can start
    mp4_faststart: Path
    webm: Path
    mp3: Path
    wav: Path


def make(folder: Path) -> Media:
    """Make the files in `folder`."""
    return Media(
        jpeg=_make(folder / "picture.jpg", *_PICTURE),
        png=_make(folder / "picture.png", *_PICTURE),
        gif=_make(folder / "picture.gif", *_PICTURE),
        webp=_make(folder / "picture.webp", *_PICTURE, "-c:v", "libwebp"),
        mp4=_make(folder / "film.mp4", *_H264),
        mp4_faststart=_make(folder / "film-faststart.mp4", *_H264, "-movflags", "+faststart"),
        webm=_make(
            folder / "film.webm", *_FILM, *_SOUND, *("-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8")
        ),
        mp3=_make(folder / "sound.mp3", *_SOUND),
        wav=_make(folder / "sound.wav", *_SOUND, "-ar", "8000"),
    )


def _make(path: Path, *options: str) -> Path:
    processes.run(["ffmpeg", "-nostdin", "-loglevel", "error", "-y", *options, path])
    return path
