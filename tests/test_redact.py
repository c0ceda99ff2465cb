from __future__ import annotations

import pytest

from recipes.redact import shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "https://b.s3.amazonaws.com/a?X-Amz-Credential=A%2F1&X-Amz-Signature=0f",
            "X-Amz-Signature=…",
        ),
        ("https://x.blob.core.windows.net/c/a.vhd?sv=2024&sp=r&sig=a%2Bb%3D", "sp=r&sig=…"),
        ("https://storage.googleapis.com/b/a?GoogleAccessId=me&Expires=1&Signature=x%2By", "Expires=1&Signature=…"),
        ("https://gitlab.example/a?private_token=glpat-1", "private_token=…"),
        ("https://example.org/a?access_token=1&download=true", "access_token=…&download=true"),
        ("got 'https://example.org/a?token=1' instead", "a?token=…' instead"),
        ("two: http://a:b@x.test/1 and http://c@y.test/2", "two: http://x.test/1 and http://y.test/2"),
    ],
)
def test_secrets_are_left_out(text: str, expected: str) -> None:
    assert expected in shown(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/a?design=1&monkey=2&author=me",
        "no url: sig=1",
        "mail me@example.org",
        "oci://x.test/a@sha256:0",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert shown(text) == text
