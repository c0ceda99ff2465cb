"""The engine: brings an artifact up to date in the cache, and lets go of what nobody asked for.

`derive` is idempotent and safe to run twice at once: it holds the entry's lock, and a receipt that somebody else wrote
since this run began is taken as it is. Between the decision that an input is needed and the lock, another process may
have made what it was for and released it: `supply` decides again, under the lock.

*Asked for is kept; passed through is released*: what somebody named, in `derive` of images.toml or on a command line,
stays; an intermediate goes as soon as no asked-for derivation lacks it.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from recipes.cache import store
from recipes.cache.receipt import Receipt, derivation_key
from recipes.errors import Interrupted, LarderError, NoSpace, StoreError
from recipes.formats.io.files import os_errors
from recipes.kinds import DERIVABLE, KINDS
from recipes.model import Wrapper
from recipes.progress import SILENCE
from recipes.units import now

from . import restored
from .recipe import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from recipes.cache.store import Entry, Held, Store
    from recipes.formats.io.arrival import Arrival
    from recipes.model import Identity, Image
    from recipes.progress import Progress

    from .recipe import Ahead, Limits, Made, Recipe

#: Every recipe by the kind that it makes, inputs before what is made from them.
RECIPES: dict[str, Recipe] = {kind: import_module(f".{kind}", __package__).RECIPE for kind in KINDS}


@dataclass(slots=True)
class Session:
    """One run: what it works with, and what it has learned."""

    store: Store
    limits: Limits
    progress: Progress = SILENCE
    began_ns: int = field(default_factory=time.time_ns)
    #: The kinds that this run works towards, by the name of the image; what they are made from apart.
    wanted: dict[str, set[str]] = field(default_factory=dict)
    #: Whether what is wanted, and all that it is made from, is to be made anew.
    rebuilds: bool = False
    #: What could not be made in this run, by entry and key: not tried again for each task that needs it.
    failures: dict[tuple[str, str], LarderError] = field(default_factory=dict)
    _entries: dict[tuple[str, str], list[Entry]] | None = None

    def twin(self, kind: str, key: str, *, of: Entry | None = None) -> tuple[Entry, Receipt] | None:
        """Return another entry than `of` that has the artifact of `kind` for `key`, and its receipt."""
        if self._entries is None:
            # Read once: a thousand images that are not there yet would each read the receipts of all the others.
            found: dict[tuple[str, str], list[Entry]] = {}
            for entry in self.store.entries():
                for each in RECIPES:
                    if there := entry.receipt(each):
                        found.setdefault((each, there.key), []).append(entry)
            self._entries = found
        # All of them: any may have been pruned, or replaced, since.
        for entry in tuple(self._entries.get((kind, key), ())):
            if (of is None or entry.path != of.path) and (receipt := entry.current(kind, key)):
                return entry, receipt
        return None

    def made(self, entry: Entry, receipt: Receipt) -> None:
        """Remember where an artifact was made in this run."""
        if self._entries is not None:
            self._entries.setdefault((receipt.kind, receipt.key), []).append(entry)

    def fail(self, entry: Entry, key: str, error: LarderError) -> None:
        """Remember that the artifact for `key` cannot be made in `entry`, unless that may be otherwise in a moment."""
        # Room comes back as others release what they passed through.
        if not isinstance(error, NoSpace | Interrupted):
            self.failures[str(entry.path), key] = error

    def failure(self, entry: Entry, key: str) -> LarderError | None:
        """Return why the artifact for `key` could not be made in `entry`; None where nothing is known against it."""
        error = self.failures.get((str(entry.path), key))
        # A new one for whoever raises it: threads that raise one and the same write to each other's traceback.
        return copy.copy(error) if error else None


def key_of(kind: str, image: Image, identity: Identity) -> str:
    """Return the key that an artifact of `kind` of `image` must have to be current."""
    recipe, source = RECIPES[kind], DERIVABLE[image.kind][kind]
    made_from = key_of(source, image, identity) if source else str(identity.digest)
    return derivation_key(recipe.name, made_from, recipe.parameters(image, identity))


def needed(image: Image, asked: Collection[str], current: Callable[[str], bool]) -> set[str]:
    """Return the kinds of `image` that are asked for, and those that an asked-for derivation lacks as its input.

    A derivation lacks its input while it is not current itself; an input that is current lacks nothing.
    """
    inputs = DERIVABLE[image.kind]
    found = set(asked)
    for kind in asked:
        # What was asked for while the image was declared as another kind is kept, and lacks nothing.
        lacking: str | None = kind if kind in inputs else None
        while lacking and not current(lacking):
            lacking = inputs[lacking]
            if lacking:
                found.add(lacking)
    return found


def inputs(image: Image, kinds: Collection[str]) -> set[str]:
    """Return `kinds`, and what they are made from, all the way up."""
    return needed(image, kinds, lambda kind: False)


def is_current(entry: Entry, kind: str, image: Image, identity: Identity) -> bool:
    """Say whether the artifact of `kind` is there, intact as far as size and mtime tell, and made from `identity`."""
    return kind in DERIVABLE[image.kind] and entry.current(kind, key_of(kind, image, identity)) is not None


def ensure_current(kind: str, image: Image, identity: Identity, session: Session) -> bool:
    """Say whether the artifact of `kind` is current, after trying what costs neither a download nor a conversion.

    * A cache that was copied or restored keeps its bytes, and may lose mtimes and holes: see `restored.adopt`.
    * Another image with the same bytes has the artifact: it gets a second name here.
    """
    entry, key = session.store.entry(image), key_of(kind, image, identity)
    receipt = entry.receipt(kind)
    if receipt is None or receipt.key != key:
        return _take_twin(kind, key, image, identity, session)
    return restored.adopt(entry, receipt, jobs=session.limits.jobs, progress=session.progress)


def _take_twin(kind: str, key: str, image: Image, identity: Identity, session: Session) -> bool:
    entry = session.store.entry(image)
    found = session.twin(kind, key, of=entry)
    if found is None:
        return False
    twin, receipt = found
    mine = dataclasses.replace(receipt, image=image.name, arch=image.arch, identity=identity, made=now(), durations={})
    # Where this does not work out the artifact is made, as if there were no twin.
    with suppress(StoreError, OSError), entry.hold() as held:
        if entry.current(kind, key) is None:
            temporary = held.temporary(kind)
            store.link(twin.artifact(kind), temporary)
            held.publish(temporary, mine)
        return True
    return False


def derive(kind: str, image: Image, identity: Identity, session: Session) -> Receipt:
    """Make the artifact of `kind`, release what it was made from, and return its receipt.

    The caller found that the artifact is not current, or wants it rebuilt: a current one is taken as it is only where
    it was written since the session began.
    """
    entry = session.store.entry(image)
    with entry.hold(session.progress) as held:
        job = _Job(image, identity, session, held)
        receipt = job.derive(kind, wanted=True)
        # What was made just now stays until the derivation that it was made for has run, also where that one is
        # still current because it is being rebuilt.
        job.release(but=kind)
    return receipt


def supply(kind: str, image: Image, identity: Identity, session: Session) -> Receipt | None:
    """Do as `derive`, and take a current artifact however old it is, unless the session rebuilds.

    Return None, with nothing done, where `kind` is an input that nobody lacks any more.

    It is lacked while it is asked for, or while something that is asked for, or that the session wants, is not there
    and has to be made from it. What is an input of neither was called for in some other way, and is made.
    """
    with session.store.entry(image).hold(session.progress) as held:
        job = _Job(image, identity, session, held)
        if not job.lacks(kind):
            return None
        receipt = job.derive(kind, wanted=session.rebuilds)
        job.release(but=kind)
    return receipt


@contextmanager
def lend(
    kinds: Collection[str], image: Image, identity: Identity, session: Session
) -> Iterator[Callable[[str], Receipt]]:
    """Hold the entry of `image`, and yield what brings an artifact, one of `kinds`, up to date in it.

    For whoever needs several at once: none goes before the context ends. Then those go that nobody asked for; after an
    error they stay, for the next attempt.
    """
    for kind in kinds:
        ensure_current(kind, image, identity, session)
    with session.store.entry(image).hold(session.progress) as held:
        job = _Job(image, identity, session, held)
        yield functools.partial(job.derive, wanted=False)
        job.release()


def tidy(image: Image, identity: Identity, session: Session) -> None:
    """Release and remove what an earlier, killed run left in the entry; nothing where the entry is in use."""
    entry = session.store.entry(image)
    passed_through = set(entry.kinds()) - set(image.derive) - entry.asked()
    if not (passed_through or entry.leftovers() or store.is_there(entry.part)):
        return
    with suppress(StoreError), entry.hold() as held:
        _Job(image, identity, session, held).release()


class _Following(NamedTuple):
    """What is being made of an artifact while that arrives."""

    recipe: Recipe
    key: str
    ahead: Ahead


@dataclass(frozen=True, slots=True)
class _Job:
    """One image to be worked on, under the lock of its entry."""

    image: Image
    identity: Identity
    session: Session
    held: Held

    def derive(self, kind: str, *, wanted: bool, towards: str | None = None) -> Receipt:
        """Return the receipt of a current artifact, which is made where it is not there or is `wanted` anew.

        `towards` is the kind that is made from it next.
        """
        entry, key = self.held.entry, key_of(kind, self.image, self.identity)
        present = entry.current(kind, key)
        if present is not None and not (wanted and self._is_old(kind)):
            return present
        if (failure := self.session.failure(entry, key)) is not None:
            raise failure
        try:
            return self._make(RECIPES[kind], key, towards)
        except LarderError as error:
            self.session.fail(entry, key, error)
            raise

    def lacks(self, kind: str) -> bool:
        """Say whether `kind` is called for still, see `supply`."""
        wanted = self.session.wanted.get(self.image.name, set())
        asked = {*self.image.derive, *self.held.entry.asked(), *wanted}
        return kind not in inputs(self.image, asked) or kind in needed(self.image, asked, self._is_done)

    def release(self, *, but: str | None = None) -> None:
        """Discard what nobody asked for and no asked-for derivation still lacks, except the kind `but`."""
        wanted = self._wanted()
        for kind in self.held.entry.kinds():
            if kind not in wanted and kind != but:
                self.held.discard(kind)
        if RECIPES["fetch"].kind not in wanted and but is None:
            self.held.discard_part()

    def _wanted(self, *, assume: str | None = None) -> set[str]:
        """Return the kinds that must stay, see `needed`; the kind `assume` counts as current."""
        return needed(
            self.image,
            {*self.image.derive, *self.held.entry.asked()},
            lambda kind: kind == assume or self._is_current(kind),
        )

    def _is_done(self, kind: str) -> bool:
        """Say whether this run has nothing to do for `kind`: another process may have rebuilt it as well."""
        if self.session.rebuilds and self._is_old(kind):
            wanted = self.session.wanted.get(self.image.name, ())
            return kind not in inputs(self.image, wanted) and self._is_current(kind)
        return self._is_current(kind)

    def _is_current(self, kind: str) -> bool:
        return is_current(self.held.entry, kind, self.image, self.identity)

    def _is_old(self, kind: str) -> bool:
        return self.held.entry.written_ns(kind) < self.session.began_ns

    def _make(self, recipe: Recipe, key: str, towards: str | None) -> Receipt:
        made_from = DERIVABLE[self.image.kind][recipe.kind]
        source = self.derive(made_from, wanted=False, towards=recipe.kind) if made_from else None
        # It may have been made while its input arrived.
        present = self.held.entry.current(recipe.kind, key)
        if present is not None and not self._is_old(recipe.kind):
            return present
        with self._ahead(recipe.kind, towards) as following:
            try:
                # What publishing finds too full counts as well.
                with os_errors(self.held.entry.path):
                    return self._make_of(source, recipe, key, following)
            except NoSpace:
                if following is None:
                    raise
        # Once more without the draft beside it: what is here in the end is either both, or the input at least.
        return self._make_of(source, recipe, key, None)

    def _make_of(self, source: Receipt | None, recipe: Recipe, key: str, following: _Following | None) -> Receipt:
        work = self._work(recipe, source, following.ahead.arrival if following else None)
        began = time.monotonic()
        made = recipe.make(work)
        if following:
            following.ahead.arrival.end()
        receipt = self._publish(recipe, key, made, source, began)
        if source is not None and made.path == self.held.entry.artifact(source.kind):
            self.held.discard(source.kind)
        if following:
            began = time.monotonic()
            if (also := following.ahead.made()) is not None:
                self._publish(following.recipe, following.key, also, receipt, began)
        return receipt

    def _work(self, recipe: Recipe, source: Receipt | None, arrival: Arrival | None = None) -> Work:
        return Work(
            image=self.image,
            identity=self.identity,
            held=self.held,
            limits=self.session.limits,
            progress=self.session.progress,
            temporary=self.held.temporary(recipe.kind),
            source=source,
            keep_source=source is not None and source.kind in self._wanted(assume=recipe.kind),
            arrival=arrival,
        )

    @contextmanager
    def _ahead(self, kind: str, towards: str | None) -> Iterator[_Following | None]:
        """Begin what this run makes of `kind` next while that arrives, if it can be."""
        wanted = self.session.wanted.get(self.image.name, ())
        lacking = needed(self.image, {*wanted} & DERIVABLE[self.image.kind].keys(), self._is_done) | {towards}
        for each, source in DERIVABLE[self.image.kind].items():
            recipe = RECIPES[each]
            if source == kind and each in lacking and recipe.ahead is not None and not self._is_done(each):
                with recipe.ahead(self._work(recipe, None)) as ahead:
                    yield _Following(recipe, key_of(each, self.image, self.identity), ahead)
                return
        yield None

    def _publish(self, recipe: Recipe, key: str, made: Made, source: Receipt | None, began: float) -> Receipt:
        seconds = {recipe.kind: round(time.monotonic() - began, 3)}
        receipt = self.held.publish(made.path, self._receipt(recipe, key, made, source, seconds))
        self.session.made(self.held.entry, receipt)
        return receipt

    def _receipt(
        self, recipe: Recipe, key: str, made: Made, source: Receipt | None, seconds: dict[str, float]
    ) -> Receipt:
        if source is not None:
            wrapper, served, when, earlier = source.wrapper, source.served, source.when, source.durations
        else:
            assert made.served is not None, "a recipe without an input says where its bytes came from"
            assert made.artifact.digest is not None, "what was downloaded was hashed on the way"
            wrapper, served = Wrapper(made.artifact.digest, made.artifact.size), made.served
            when, earlier = now(), {}
        return Receipt(
            kind=recipe.kind,
            key=key,
            recipe=recipe.name,
            image=self.image.name,
            arch=self.image.arch,
            identity=self.identity,
            when=when,
            served=served,
            wrapper=wrapper,
            content=made.content,
            artifact=made.artifact,
            made=now(),
            durations={**earlier, **seconds},
        )
