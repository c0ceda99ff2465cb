from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recipes.cache.prune import Inode, Item, Policy, Standing, decide, total
from recipes.errors import StoreError

ALL = Policy()


def item(name: str, standing: Standing = Standing.UNDECLARED, **facts: Any) -> Item:
    """Return an artifact called `name`, of a file of its own."""
    given: dict[str, Any] = {
        "inode": Inode(1, hash(name)),
        "links": 1,
        "allocated": 100,
        "image": name,
        "kind": "raw",
        **facts,
    }
    return Item(path=Path(name), standing=standing, **given)


KEPT = item("kept", Standing.WANTED)


def gone(items: list[Item], policy: Policy = ALL) -> dict[str, int]:
    """Return what goes, in its order, and what each frees."""
    return {str(verdict.item.path): verdict.freed for verdict in decide(items, policy) if not verdict.kept}


def kept(items: list[Item], policy: Policy = ALL) -> dict[str, str]:
    return {str(verdict.item.path): verdict.kept for verdict in decide(items, policy) if verdict.kept}


@pytest.mark.parametrize("standing", Standing)
def test_what_nobody_needs_goes(standing: Standing) -> None:
    stays = standing in (Standing.WANTED, Standing.UNKNOWN)
    assert gone([KEPT, item("a", standing)]) == ({} if stays else {"a": 100})


def test_what_another_process_works_on_stays() -> None:
    assert kept([KEPT, item("a", busy=True)]) == {"a": "in use by another process"}


def test_what_an_overlay_has_by_a_hard_link_stays() -> None:
    assert "hard link" in kept([KEPT, item("a", links=2)])["a"]


def test_a_file_with_two_names_goes_with_the_last() -> None:
    names = [item(name, inode=Inode(1, 5), links=2, used_ns=used) for used, name in enumerate(("a", "b"))]
    assert gone([KEPT, *names]) == {"a": 0, "b": 100}
    assert total([KEPT, *names]) == 200


def test_a_name_that_stays_keeps_the_bytes() -> None:
    names = [item("a", inode=Inode(1, 5), links=2), item("b", Standing.WANTED, inode=Inode(1, 5), links=2)]
    assert gone(names) == {"a": 0}


def test_a_leftover_goes_whoever_has_a_link_to_it() -> None:
    assert gone([KEPT, item("a", Standing.LEFTOVER, kind="", links=2)]) == {"a": 0}


def test_age_chooses_among_artifacts() -> None:
    items = [
        KEPT,
        item("old", used_ns=10),
        item("new", used_ns=20),
        item("leftover", Standing.LEFTOVER, kind="", used_ns=99),
        item("old but wanted", Standing.WANTED, used_ns=1),
    ]
    assert gone(items, Policy(used_before_ns=20)) == {"leftover": 100, "old": 100}


class TestTotalSize:
    items = (KEPT, *(item(name, used_ns=used) for used, name in enumerate("abc")))

    @pytest.mark.parametrize(
        ("limit", "names"), [(400, ""), (399, "a"), (300, "a"), (299, "ab"), (200, "ab"), (100, "abc"), (0, "abc")]
    )
    def test_the_least_recently_used_go_first(self, limit: int, names: str) -> None:
        assert "".join(gone(list(self.items), Policy(max_size=limit))) == names

    def test_names_that_free_nothing_are_not_counted(self) -> None:
        one: dict[str, Any] = {"inode": Inode(1, 5), "links": 2}
        items = [KEPT, item("a", used_ns=1, **one), item("b", used_ns=2), item("c", used_ns=3, **one)]
        assert gone(items, Policy(max_size=100)) == {"a": 0, "b": 100, "c": 100}
        assert gone(items, Policy(max_size=200)) == {"a": 0, "b": 100}

    def test_leftovers_go_in_any_case(self) -> None:
        assert gone([KEPT, item("a", Standing.LEFTOVER, kind="")], Policy(max_size=10**9)) == {"a": 100}

    def test_with_age_both_must_hold(self) -> None:
        assert "".join(gone(list(self.items), Policy(used_before_ns=1, max_size=0))) == "a"


class TestNeverEverything:
    def test_refused(self) -> None:
        with pytest.raises(StoreError, match="LARDER_IMAGES"):
            decide([item("a"), item("b"), item("c", Standing.LEFTOVER, kind="")], ALL)

    def test_something_stays(self) -> None:
        assert gone([item("a"), item("b", busy=True)]) == {"a": 100}

    def test_a_choice(self) -> None:
        assert gone([item("a", used_ns=1), item("b", used_ns=2)], Policy(used_before_ns=2)) == {"a": 100}

    def test_what_is_declared_and_of_no_use(self) -> None:
        assert gone([item("a", Standing.SUPERSEDED)]) == {"a": 100}

    def test_nothing_is_there(self) -> None:
        assert decide([], ALL) == []


@given(
    st.lists(
        st.builds(
            lambda number, standing, inode, busy, used, kind: item(
                str(number), standing, inode=Inode(1, inode), links=9, busy=busy, used_ns=used, kind=kind
            ),
            st.integers(0, 10**6),
            st.sampled_from(Standing),
            st.integers(0, 5),
            st.booleans(),
            st.integers(0, 9),
            st.sampled_from(["raw", ""]),
        ),
        max_size=12,
        unique_by=lambda each: each.path,
    ),
    st.none() | st.integers(0, 9),
    st.none() | st.integers(0, 1000),
)
def test_whatever_the_policy_less_goes_than_without(
    items: list[Item], used_before_ns: int | None, max_size: int | None
) -> None:
    items = [KEPT, *items]
    some = gone(items, Policy(used_before_ns, max_size))
    assert some.keys() <= gone(items).keys()
    protected = {Standing.WANTED, Standing.UNKNOWN}
    assert not {str(each.path) for each in items if each.standing in protected or each.busy} & some.keys()
    assert sum(some.values()) <= total(items)
