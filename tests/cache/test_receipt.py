from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from recipes.cache.receipt import Pulled, Receipt, derivation_key
from recipes.model import Artifact, BlockHash, Content
from tests.kit.receipts import DIGEST, receipt

WHOLE = dataclasses.replace(
    receipt("k"),
    content=Content(DIGEST, 7, "qcow2", 1 << 30),
    artifact=Artifact(1, 2, 3, DIGEST, BlockHash("blake3", 65536, "0.10.1", "ab")),
    durations={"fetch": 1.5, "raw": 0.25},
    pulled=Pulled("oci://x.test/a:k", str(DIGEST), "2026-01-01T00:00:00Z"),
)


def test_a_key_is_of_recipe_source_and_parameters_and_nothing_else() -> None:
    one = derivation_key("raw/1", "source", {"a": 1, "b": 2})
    assert one == derivation_key("raw/1", "source", {"b": 2, "a": 1})
    others: list[tuple[str, str, dict[str, object]]] = [
        ("raw/2", "source", {"a": 1, "b": 2}),
        ("raw/1", "other", {"a": 1, "b": 2}),
        ("raw/1", "source", {"a": 1}),
    ]
    assert len({one, *(derivation_key(*each) for each in others)}) == 4
    # As every cache has it: a change here makes everything anew.
    assert derivation_key("raw/1", "x", {}) == "6f922c83bfa4e81f2c73d31441cdaa35c525a1c1b1054c04a70cdbde2c9f5fdb"


@pytest.mark.parametrize("whole", [WHOLE, receipt("k"), dataclasses.replace(WHOLE, pulled=None, content=None)])
def test_json_and_back(whole: Receipt) -> None:
    assert Receipt.from_json(json.loads(json.dumps(whole.to_json()))) == whole


def test_secrets_of_urls_stay_out() -> None:
    secret = dataclasses.replace(
        WHOLE,
        identity=WHOLE.identity._replace(urls=("https://me:sesame@x.test/a?sig=sesame",)),
        served=dataclasses.replace(WHOLE.served, url="https://me:sesame@y.test/a?token=sesame"),
    )
    text = json.dumps(secret.to_json())
    assert "sesame" not in text
    assert "https://x.test/a" in text
    assert "https://y.test/a" in text


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("larder",), 2),
        (("kind",), 7),
        (("artifact", "size"), "1"),
        (("artifact", "size"), True),
        (("artifact", "size"), 1 << 64),
        (("wrapper", "digest"), "md5:0"),
        (("identity",), []),
        (("durations", "raw"), -1),
        (("content", "virtual_size"), "large"),
    ],
)
def test_what_is_no_receipt(place: tuple[str, ...], value: Any) -> None:
    document = json.loads(json.dumps(WHOLE.to_json()))
    table = document
    for key in place[:-1]:
        table = table[key]
    table[place[-1]] = value
    with pytest.raises((KeyError, TypeError, ValueError)):
        Receipt.from_json(document)


def test_what_is_missing() -> None:
    for key in ("kind", "key", "identity", "artifact", "made"):
        document = WHOLE.to_json()
        del document[key]
        with pytest.raises(KeyError):
            Receipt.from_json(document)
