"""The real tools that tests hold larder against."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def need(*tools: str) -> None:
    """Skip the test where one of `tools` is missing; fail instead where CI says that all of them must be there."""
    for tool in tools:
        # Debian keeps mke2fs and its like out of an ordinary user's PATH.
        if not shutil.which(tool) and not shutil.which(tool, path="/usr/sbin:/sbin"):
            lack(f"{tool} is not installed")


def lack(reason: str) -> NoReturn:
    """Skip the test for want of something; fail instead where CI says that nothing may be lacking."""
    if os.environ.get("LARDER_REQUIRE_ORACLES") == "1":
        pytest.fail(f"{reason}, and LARDER_REQUIRE_ORACLES=1 requires it")
    pytest.skip(reason)
