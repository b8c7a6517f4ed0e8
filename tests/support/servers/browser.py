"""Debian's Chromium, headless, driven by Playwright."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

from tests.support.servers import processes

# Nothing but what the page asks for goes to the network, and sound may play without a click.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--autoplay-policy=no-user-gesture-required",
)


def executable() -> str:
    """Find the browser."""
    return processes.program("chromium")


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """Start a browser with an empty profile of its own, for contexts and pages."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable(), args=[*ARGUMENTS])
        try:
            yield browser
        finally:
            await browser.close()
