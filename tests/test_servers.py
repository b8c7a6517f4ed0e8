"""Every server that tests lean on starts and answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import asyncpg
import pytest
from playwright.async_api import Page

from tests.support.media import SECONDS, Media
from tests.support.servers import nginx as nginx_module
from tests.support.servers import processes
from tests.support.servers.d1 import D1
from tests.support.servers.postgres import Postgres
from tests.support.servers.s3 import S3Server


async def test_a_postgres_database_is_fresh_and_takes_writes(postgres: Postgres, postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE TABLE t (x BIGINT)")
    await connection.execute("INSERT INTO t VALUES ($1)", 2**40)
    assert await connection.fetchval("SELECT x FROM t") == 2**40
    await connection.close()
    assert postgres.execute("SELECT count(*) FROM pg_tables WHERE tablename = 't'").strip() == "0"


def test_an_s3_bucket_gives_back_what_was_put_and_ranges_of_it(s3: S3Server) -> None:
    bucket, client = s3.create_bucket(), s3.client()
    client.put_object(Bucket=bucket, Key="a/b", Body=b"0123456789")
    assert client.get_object(Bucket=bucket, Key="a/b", Range="bytes=2-4")["Body"].read() == b"234"
    client.close()


def test_d1_answers_queries_batches_and_several_statements_in_the_shape_of_the_http_api(d1: D1) -> None:
    database = d1.create_database()
    script = "CREATE TABLE t (x INTEGER, y TEXT); -- a ; in a comment\nINSERT INTO t VALUES (1, 'a;b'), (2, NULL)"
    assert [part["meta"]["changes"] for part in _ask(d1, database, {"sql": script})["result"]] == [0, 2]
    insert = {"sql": "INSERT INTO t VALUES (?1, ?2) RETURNING x", "params": [2**40, "c"]}
    answer = _ask(d1, database, {"batch": [insert, {"sql": "SELECT count(*) AS n FROM t", "params": []}]})
    assert (answer["success"], answer["errors"], answer["messages"]) == (True, [], [])
    assert [part["results"] for part in answer["result"]] == [[{"x": 2**40}], [{"n": 3}]]


def test_d1_refuses_in_the_shape_of_the_http_api(d1: D1) -> None:
    database = d1.create_database()
    _ask(d1, database, {"sql": "CREATE TABLE t (x INTEGER PRIMARY KEY)"})
    insert = {"sql": "INSERT INTO t VALUES (1)"}
    assert _error(d1, database, {"batch": [insert, insert]})[0] == 400
    # A batch is a transaction: its first insert is gone with its second.
    assert _ask(d1, database, {"sql": "SELECT x FROM t"})["result"][0]["results"] == []
    assert _error(d1, database, {"sql": "SELECT * FROM u"}) == (400, 7500, "no such table: u: SQLITE_ERROR")
    assert _error(d1, "of-nobody", insert)[:2] == (404, 7404)
    d1.refuse(1, headers={"Retry-After": "7"})
    assert _error(d1, database, insert)[:2] == (429, 971)
    assert _ask(d1, database, insert)["success"] is True


def test_nginx_serves_a_folder(nginx: nginx_module.Start, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"bytes")
    server = nginx("server { listen 127.0.0.1:@port@; root @files@; }", tmp_path)
    with urlopen(f"{server.url}/a") as response:
        assert response.read() == b"bytes"


async def test_the_browser_plays_a_video(page: Page, nginx: nginx_module.Start, media: Media) -> None:
    server = nginx("types { video/mp4 mp4; } server { listen 127.0.0.1:@port@; root @files@; }", media.mp4.parent)
    await page.goto(f"{server.url}/{media.mp4.name}")
    await page.wait_for_function("document.querySelector('video').readyState >= 2")
    assert await page.evaluate("document.querySelector('video').duration") == pytest.approx(SECONDS, abs=0.2)


def test_the_samples_are_what_their_names_say(media: Media) -> None:
    formats = {}
    for name, path in vars(media).items():
        probe = processes.run(["ffprobe", "-v", "error", "-show_entries", "format=format_name", "-of", "json", path])
        formats[name] = json.loads(probe)["format"]["format_name"].split(",")[0]
    movies = {"mp4": "mov", "mp4_faststart": "mov", "webm": "matroska", "mp3": "mp3", "wav": "wav"}
    assert formats == {"jpeg": "image2", "png": "png_pipe", "gif": "gif", "webp": "webp_pipe", **movies}
    assert media.mp4.read_bytes().index(b"moov") > media.mp4.stat().st_size / 2
    assert media.mp4_faststart.read_bytes().index(b"moov") < 100


def _ask(d1: D1, database: str, body: dict[str, Any]) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {d1.token}", "Content-Type": "application/json"}
    request = Request(d1.query_url(database), json.dumps(body).encode(), headers)
    with urlopen(request) as response:
        answer: dict[str, Any] = json.load(response)
        return answer


def _error(d1: D1, database: str, body: dict[str, Any]) -> tuple[int, int, str]:
    with pytest.raises(HTTPError) as raised:
        _ask(d1, database, body)
    with raised.value:
        answer = json.load(raised.value)
        assert (answer["success"], answer["result"]) == (False, [])
        return raised.value.code, answer["errors"][0]["code"], answer["errors"][0]["message"]
