"""Who may upload for a purpose, who owns it then, and which types it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from policies.model import ANONYMOUS, Caller, CallerKind, Denied, Reason, Visibility
from policies.purposes import Purpose, allows_type, default_visibility, may_upload

USERS_ONLY: Final = Purpose("avatar", ("image/png",), 1)
GUESTS_TOO: Final = replace(USERS_ONLY, name="reference_image", guests=True)
STAFF_ONLY: Final = replace(USERS_ONLY, name="post_image", roles=frozenset({"staff", "editor"}))
STAFF_AND_GUESTS: Final = replace(STAFF_ONLY, guests=True)
OF_THE_SYSTEM: Final = replace(GUESTS_TOO, name="banner", owner="system")

GUEST: Final = Caller(CallerKind.GUEST, "hash-1")
USER: Final = Caller(CallerKind.USER, "u_1", guest="hash-1")
EDITOR: Final = Caller(CallerKind.USER, "u_2", roles=frozenset({"editor"}))
UPLOADER: Final = Caller(CallerKind.SERVICE, "app", scopes=frozenset({"upload"}))
READER: Final = Caller(CallerKind.SERVICE, "app", scopes=frozenset({"read", "admin"}))


@pytest.mark.parametrize(
    ("caller", "purpose", "visibility", "owner"),
    [
        (USER, USERS_ONLY, Visibility.PRIVATE, "user:u_1"),
        (USER, USERS_ONLY, Visibility.PUBLIC, "user:u_1"),
        (USER, GUESTS_TOO, None, "user:u_1"),
        (EDITOR, STAFF_ONLY, Visibility.PRIVATE, "user:u_2"),
        (GUEST, GUESTS_TOO, Visibility.PRIVATE, "guest:hash-1"),
        (GUEST, GUESTS_TOO, None, "guest:hash-1"),
        (ANONYMOUS, GUESTS_TOO, None, "system"),
        (UPLOADER, USERS_ONLY, Visibility.PUBLIC, "system"),
        (UPLOADER, STAFF_ONLY, None, "system"),
        (USER, OF_THE_SYSTEM, None, "system"),
        (GUEST, OF_THE_SYSTEM, None, "system"),
    ],
)
def test_who_may_upload_owns_it_unless_it_is_the_systems(
    caller: Caller, purpose: Purpose, visibility: Visibility | None, owner: str
) -> None:
    assert may_upload(caller, purpose, visibility) == owner


@pytest.mark.parametrize(
    ("caller", "purpose", "visibility", "reason"),
    [
        (ANONYMOUS, USERS_ONLY, None, Reason.SIGN_IN_REQUIRED),
        (ANONYMOUS, STAFF_AND_GUESTS, None, Reason.SIGN_IN_REQUIRED),
        (ANONYMOUS, GUESTS_TOO, Visibility.PUBLIC, Reason.GUEST_MAY_NOT_PUBLISH),
        (GUEST, USERS_ONLY, None, Reason.PURPOSE_NOT_ALLOWED),
        (GUEST, USERS_ONLY, Visibility.PUBLIC, Reason.PURPOSE_NOT_ALLOWED),
        (GUEST, STAFF_AND_GUESTS, None, Reason.PURPOSE_NOT_ALLOWED),
        (GUEST, GUESTS_TOO, Visibility.PUBLIC, Reason.GUEST_MAY_NOT_PUBLISH),
        (GUEST, OF_THE_SYSTEM, Visibility.PUBLIC, Reason.GUEST_MAY_NOT_PUBLISH),
        (USER, STAFF_ONLY, None, Reason.PURPOSE_NOT_ALLOWED),
        (READER, GUESTS_TOO, None, Reason.SCOPE_MISSING),
    ],
)
def test_who_may_not_upload_is_told_why(
    caller: Caller, purpose: Purpose, visibility: Visibility | None, reason: Reason
) -> None:
    with pytest.raises(Denied) as refusal:
        may_upload(caller, purpose, visibility)
    assert refusal.value.reason is reason


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        (ANONYMOUS, Visibility.PRIVATE),
        (GUEST, Visibility.PRIVATE),
        (USER, Visibility.PUBLIC),
        (UPLOADER, Visibility.PUBLIC),
    ],
)
def test_what_guests_upload_stays_private_where_others_publish(caller: Caller, expected: Visibility) -> None:
    public = replace(GUESTS_TOO, visibility=Visibility.PUBLIC)
    assert default_visibility(caller, public) is expected


@pytest.mark.parametrize(
    ("types", "media_type", "allowed"),
    [
        (("image/png",), "image/png", True),
        (("image/png",), "IMAGE/PNG", True),
        (("image/png",), "image/jpeg", False),
        (("image/*",), "image/webp", True),
        (("image/*",), "video/mp4", False),
        (("image/*", "video/*"), "video/mp4", True),
        (("image/*",), "image", False),
        (("image/*",), "imagery/png", False),
        (("image/*",), "", False),
        (("image/*",), "image/svg+xml", False),
        (("image/*",), "image/svg+xml; charset=utf-8", False),
        (("image/*",), "IMAGE/SVG+XML", False),
        (("image/*", "image/svg+xml"), "image/svg+xml", True),
        ((), "image/png", False),
    ],
)
def test_a_pattern_covers_its_family_but_never_svg(types: tuple[str, ...], media_type: str, *, allowed: bool) -> None:
    assert allows_type(replace(USERS_ONLY, types=types), media_type) is allowed
