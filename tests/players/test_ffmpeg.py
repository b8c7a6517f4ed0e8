"""ffmpeg, ffprobe and curl read a video through a signed URL, as they would from a plain web server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.support.gateway import serve_process
from tests.support.media import SECONDS, Media
from tests.support.shop import Shop

FRAME = 320 * 240 * 3  # bytes of a picture in rgb24


def run(*command: str | Path) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with serve_process(tmp_path_factory.mktemp("serve")) as served:
        yield Shop(served.url)


@pytest.fixture(scope="module")
def film(shop: Shop, media: Media) -> str:
    """The signed URL of an mp4 whose index is at the end."""
    data = media.mp4.read_bytes()
    assert data.index(b"mdat") < data.index(b"moov")
    return shop.sign(shop.upload(media.mp4, "generated_video"))


def frame_at(source: str | Path, second: float) -> bytes:
    """Decode the one frame that is shown at a second."""
    seek = ["-ss", str(second), "-i", str(source), "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    frame = run("ffmpeg", "-nostdin", "-loglevel", "error", *seek)
    assert len(frame) == FRAME
    return frame


def test_ffprobe_reads_duration_and_streams_of_a_film_whose_index_is_at_the_end(film: str) -> None:
    shown = ["-show_entries", "format=duration:stream=codec_name,width,height", "-of", "json"]
    found = orjson.loads(run("ffprobe", "-loglevel", "error", *shown, film))
    assert float(found["format"]["duration"]) == pytest.approx(SECONDS, abs=0.2)
    picture, sound = found["streams"]
    assert picture == {"codec_name": "h264", "width": 320, "height": 240}
    assert sound == {"codec_name": "aac"}


@pytest.mark.parametrize("second", [0.5, 7.0, 9.0])
def test_ffmpeg_seeks_to_the_very_frame(film: str, media: Media, second: float) -> None:
    assert frame_at(film, second) == frame_at(media.mp4, second)


def test_the_frames_of_the_film_can_be_told_apart(media: Media) -> None:
    frames = {frame_at(media.mp4, second) for second in (0.5, 7.0, 9.0)}
    assert len(frames) == 3


def test_every_kind_of_media_is_read_whole(shop: Shop, media: Media) -> None:
    kinds = {
        media.mp4_faststart: "generated_video",
        media.webm: "generated_video",
        media.mp3: "generated_audio",
        media.wav: "generated_audio",
    }
    for path, purpose in kinds.items():
        url = shop.sign(shop.upload(path, purpose))
        shown = ["-loglevel", "error", "-show_entries", "format=duration", "-of", "csv=p=0"]
        assert float(run("ffprobe", *shown, url)) == pytest.approx(SECONDS, abs=0.2), path.name


def test_curl_goes_on_where_it_stopped(film: str, media: Media, tmp_path: Path) -> None:
    data, saved = media.mp4.read_bytes(), tmp_path / "film.mp4"
    saved.write_bytes(data[:12_345])
    written = run("curl", "-sS", "-C", "-", "-o", saved, "-w", "%{http_code} %{size_download}", film)
    assert written.decode() == f"206 {len(data) - 12_345}"
    assert saved.read_bytes() == data


def test_curl_is_told_that_a_complete_file_has_no_more(film: str, media: Media, tmp_path: Path) -> None:
    saved = tmp_path / "film.mp4"
    saved.write_bytes(media.mp4.read_bytes())
    status = run("curl", "-sS", "-C", "-", "-o", saved, "-w", "%{http_code}", film)
    assert status == b"416"
    assert saved.read_bytes() == media.mp4.read_bytes()


def test_curl_saves_a_download_under_its_name(shop: Shop, media: Media, tmp_path: Path) -> None:
    url = shop.sign(shop.upload(media.png, "reference_image"))
    subprocess.run(["curl", "-sS", "-OJ", url], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "picture.png").read_bytes() == media.png.read_bytes()
