"""What people and files may see of a url: its secrets are nobody's but the request's.

A url can carry a name and a password, and a signature or a token in its query. They stay in images.toml, in the
environment and in memory; messages, receipts, databases, lists and reports have what `shown` leaves.
"""

from __future__ import annotations

import re

#: Userinfo (RFC 3986, 3.2.1); also such as has an @ of its own, which the standard library's parser takes as well.
_USERINFO = re.compile(r"([a-z][a-z0-9+.-]*://)[^/?#\s\"'<>]*@", re.IGNORECASE)

#: Parameters of a query whose values open doors: signed urls of S3, Google, Azure (SAS), CloudFront and Alibaba, and
#: what servers call a secret of their own. By the end of a word, so that `assignature` and `keyboard` are none.
_SECRET = re.compile(
    r"(?<=[?&;])((?:[\w.%-]*[-_.])?(?:signature|sig|token|access_?token|auth|authorization|key-pair-id|credential|"
    r"api_?key|key|secret|password|passwd|pwd|policy|jwt|sas|code|session))=([^&;#\s\"'<>]+)",
    re.IGNORECASE,
)


def shown(text: str) -> str:
    """Return `text`, a url or a message with urls in it, as people and files may see it.

    >>> shown("https://bob:sesame@example.org/disk.img?v=2&X-Amz-Signature=0123&sig=4")
    'https://example.org/disk.img?v=2&X-Amz-Signature=…&sig=…'
    >>> shown("https://example.org/disk.img?design=1")
    'https://example.org/disk.img?design=1'
    """
    if "://" not in text:
        return text
    return _SECRET.sub(r"\1=…", _USERINFO.sub(r"\1", text))
