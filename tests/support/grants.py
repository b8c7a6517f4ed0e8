"""Grants for tests, made by the one engine that makes them: a rule that allows for the reason a test wants."""

from __future__ import annotations

from dataclasses import replace

from gateway.model import Asset
from policies.engine import decide
from policies.model import ANONYMOUS, Action, Caller, Effect, Grant, Question, Reason, State, Token, Verdict, Visibility

NOW = 1_800_000_000.0  # seconds since 1970: a day in January 2027


def an_asset(**facts: object) -> Asset:
    asset = Asset(
        id="0b9d3f7e-55a1-4c4e-9d29-0d2f6e1c7a10",
        owner="user:u_1",
        visibility=Visibility.PRIVATE,
        purpose="reference_video",
        source="upload",
        state=State.READY,
        media_type="video/mp4",
        size=3_000_000,
        sha256="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        object_key="0b/0b9d3f7e-55a1-4c4e-9d29-0d2f6e1c7a10",
        created_at=1_795_204_245_678,
        updated_at=1_795_204_245_678,
        filename="clip.mp4",
    )
    return replace(asset, **facts)  # type: ignore[arg-type]  # a test names the facts it cares for


def a_grant(
    asset: Asset,
    reason: Reason = Reason.OWNER,
    *,
    caller: Caller = ANONYMOUS,
    token: Token | None = None,
    read: tuple[str, ...] = (),
    now: float = NOW,
) -> Grant:
    def rule(question: Question) -> Verdict:
        return Verdict(Effect.ALLOW, reason, read)

    return decide(Question(caller, Action.READ, asset.subject, token, now), [rule])
