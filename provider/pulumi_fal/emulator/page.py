"""The web page at `/`, which shows machines and requests. It needs no key."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from importlib import resources

from fastapi import APIRouter, Response

PAGE = (resources.files(__package__) / "page.html").read_text(encoding="utf-8")


def _hashes(tag: str) -> str:
    """Return the hashes of the page's own scripts or styles, for the content security policy."""
    contents = re.findall(f"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
    digests = (b64encode(sha256(content.encode()).digest()).decode() for content in contents)
    return " ".join(f"'sha256-{digest}'" for digest in digests)


# The policy allows nothing from other hosts, and no script from the path of a logged request.
HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hashes('script')}",
            f"style-src {_hashes('style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

page = APIRouter()


@page.get("/")
async def show() -> Response:
    return Response(PAGE, headers=HEADERS, media_type="text/html")
