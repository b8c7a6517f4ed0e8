"""A browser plays and seeks videos by cookie and by token, and a page of strangers gets nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from aiohttp import web
from playwright.async_api import Browser, BrowserContext, Error, Page

from tests.support.gateway import serve_process
from tests.support.media import SECONDS, Media
from tests.support.servers import processes
from tests.support.shop import Shop

PAGE = Path(__file__).with_name("page.html")
PICTURE_WIDTH = 320
UPLOAD = "([gateway, name, purpose]) => upload(gateway, name, purpose)"
PLAY = "([url, share]) => play(url, share)"
# Another site of ours: a form of the visitor's browser that the page sends without their knowing.
FORGE = """async (url) => {
  const form = new FormData();
  form.append("purpose", "reference_image");
  form.append("files", new Blob(["x"]), "x.png");
  await fetch(url, { method: "POST", body: form, mode: "no-cors", credentials: "include" });
}"""


class Sites(NamedTuple):
    """The application's page, and another on the same host that the operator never named, by their ports.

    Their host is a name: to Chromium two ports of one IP address are two sites.
    """

    own: int
    other: int

    @property
    def origin(self) -> str:
        return f"http://localhost:{self.own}"

    @property
    def other_origin(self) -> str:
        """Another origin, and the same site: cookies go along."""
        return f"http://localhost:{self.other}"

    @property
    def other_site(self) -> str:
        return f"http://127.0.0.1:{self.other}"


@pytest.fixture(scope="module")
def ports() -> Sites:
    return Sites(processes.free_port(), processes.free_port())


@pytest.fixture(scope="module")
def shop(ports: Sites, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    settings = {"cors.origins": ports.origin, "purposes.reference_video.guests": "true"}
    with serve_process(tmp_path_factory.mktemp("serve"), settings) as served:
        yield Shop(served.url.replace("127.0.0.1", "localhost"))


@pytest.fixture
async def sites(ports: Sites, media: Media) -> AsyncIterator[Sites]:
    async with _pages(ports.own, media), _pages(ports.other, media):
        yield ports


@asynccontextmanager
async def _pages(port: int, media: Media) -> AsyncIterator[None]:
    """Serve the page and the media that it uploads."""

    async def answer(request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        return web.FileResponse(media.mp4.with_name(name) if name else PAGE)

    application = web.Application()
    application.router.add_get("/{name:[a-z0-9.-]*}", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield
    finally:
        await runner.cleanup()


@pytest.fixture
async def guest(browser: Browser, sites: Sites) -> Page:
    """The application's page, open in the browser of somebody who has not signed in."""
    page = await (await browser.new_context()).new_page()
    await page.goto(sites.origin)
    return page


async def upload(page: Page, shop: Shop, media: Path, purpose: str) -> str:
    """Let the page upload; return the absolute URL of the asset."""
    answer = await page.evaluate(UPLOAD, [shop.url, media.name, purpose])
    assert answer["status"] == 200, answer
    assert answer["data"]["ownerType"] == "guest"
    return shop.url + str(answer["data"]["previewUrl"])


async def assert_plays(page: Page, url: str) -> None:
    found = await page.evaluate(PLAY, [url, 0.9])
    assert found["duration"] == pytest.approx(SECONDS, abs=0.2)
    assert found["seekable"] == found["duration"]
    assert found["ranges"] == 1
    assert found["seeked"] == pytest.approx(0.9 * found["duration"], abs=0.1)
    assert found["playedOn"] > found["seeked"]
    assert found["width"] == PICTURE_WIDTH


async def test_a_guest_plays_and_seeks_what_their_own_page_uploaded(guest: Page, shop: Shop, media: Media) -> None:
    await assert_plays(guest, await upload(guest, shop, media.mp4, "reference_video"))


@pytest.mark.parametrize("kind", ["mp4", "mp4_faststart", "webm"])
async def test_a_token_plays_and_seeks_for_whom_it_was_given(guest: Page, shop: Shop, media: Media, kind: str) -> None:
    await assert_plays(guest, shop.sign(shop.upload(getattr(media, kind), "generated_video")))


async def test_the_cookie_is_out_of_reach_of_scripts(guest: Page, shop: Shop, media: Media) -> None:
    await upload(guest, shop, media.png, "reference_image")
    assert await guest.evaluate("document.cookie") == ""
    (cookie,) = [found for found in await guest.context.cookies(shop.url) if found["name"] == "assetgate_guest"]
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["secure"]) == (True, "Lax", False)


async def test_another_visitor_of_the_same_page_gets_an_error(
    guest: Page, browser: Browser, sites: Sites, shop: Shop, media: Media
) -> None:
    film = await upload(guest, shop, media.mp4, "reference_video")
    picture = await upload(guest, shop, media.png, "reference_image")
    assert await guest.evaluate("show", picture) == PICTURE_WIDTH
    stranger = await (await browser.new_context()).new_page()
    await stranger.goto(sites.origin)
    with pytest.raises(Error, match="error 4"):  # MEDIA_ERR_SRC_NOT_SUPPORTED
        await stranger.evaluate(PLAY, [film, 0.9])
    with pytest.raises(Error, match="error"):
        await stranger.evaluate("show", picture)


async def test_a_page_of_another_origin_cannot_act_for_the_guest(
    guest: Page, sites: Sites, shop: Shop, media: Media
) -> None:
    await upload(guest, shop, media.png, "reference_image")
    assert await forged(guest.context, sites, shop) == 403


async def test_where_there_is_no_cookie_nobody_is_acted_for(browser: Browser, sites: Sites, shop: Shop) -> None:
    """The same form is then any guest's first upload, and refused only for what is in it."""
    assert await forged(await browser.new_context(), sites, shop) == 415


async def forged(context: BrowserContext, sites: Sites, shop: Shop) -> int:
    """Let a page of another origin, the same site, send its form; return the status that it never sees."""
    page = await context.new_page()
    await page.goto(sites.other_origin)
    async with page.expect_response(f"{shop.url}/**") as answer:
        await page.evaluate(FORGE, f"{shop.url}/api/storage/upload-media")
    return (await answer.value).status


async def test_a_page_of_another_origin_reads_no_answers(guest: Page, sites: Sites, shop: Shop, media: Media) -> None:
    await upload(guest, shop, media.png, "reference_image")
    page = await guest.context.new_page()
    await page.goto(sites.other_origin)
    with pytest.raises(Error, match="Failed to fetch"):
        await page.evaluate("(url) => fetch(url, {credentials: 'include'})", f"{shop.url}/api/storage/assets")


async def test_a_page_of_another_site_embeds_nothing_not_even_what_is_public(
    guest: Page, sites: Sites, shop: Shop, media: Media
) -> None:
    url = f"{shop.url}/api/storage/assets/{shop.upload(media.png, 'reference_image', visibility='public')}"
    assert await guest.evaluate("show", url) == PICTURE_WIDTH
    page = await guest.context.new_page()
    await page.goto(sites.other_site)
    with pytest.raises(Error, match="error"):
        await page.evaluate("show", url)
