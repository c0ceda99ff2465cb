"""The root of a system that ostree deploys: Fedora CoreOS, IoT, Silverblue.

Its file system has no root at the top. Trees are checked out below ``/ostree/deploy/NAME/deploy/COMMIT.N``, files
being hard links into a repository, and the boot entry says which one becomes the root, with the ``var`` of its name at
/var.

Specification: ostreedev.github.io/ostree, "Deployments" and "Atomic Upgrades"; ostree-prepare-root(1). A deployment
with composefs is checked out as well, so it is read as one without.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from recipes.errors import UnsupportedFeature
from recipes.formats.boot import cmdline
from recipes.formats.io.bounds import NAME_WEIGHT
from recipes.formats.tree.tree import show
from recipes.rootplace import declare

if TYPE_CHECKING:
    from collections.abc import Iterable

    from recipes.formats.boot.bls import Entry
    from recipes.formats.tree.tree import Node, Tree

#: What only the file system around a deployment has, from its top on.
DEPLOY = b"ostree/deploy"
#: What a deployment of composefs alone leaves in the same place (bootc's backend of that name).
_COMPOSEFS = (b"composefs/images", b"state/deploy")
#: Names of systems, and deployments, that are looked at.
_MAX_DEPLOYMENTS = 1000
#: The image of the deployment's names, which composefs mounts over the repository; of no use without it.
_IMAGE = b".ostree.cfs"
_HINT = 'use the same system\'s container image (kind = "oci") instead'


class Deployment(NamedTuple):
    """A tree that is checked out."""

    system: bytes
    #: The commit, a dot and a number.
    name: bytes
    root: Node
    var: Node | None

    def __str__(self) -> str:
        return f"deployment {show(self.name)} of {show(self.system)}"


def deployments(tree: Tree) -> list[Deployment]:
    """Return what is deployed on the file system that `tree` is, in the order of the names."""
    found = []
    for system, folder in _folders(tree.follow(DEPLOY)):
        var = folder.children.get(b"var")
        for name, root in _folders(folder.children.get(b"deploy")):
            found.append(Deployment(system, name, root, var if var is not None and var.is_dir else None))
    return found[:_MAX_DEPLOYMENTS]


def deploy(tree: Tree, where: str, wanted: str, entries: Iterable[Entry]) -> Deployment:
    """Make the deployment that is the root that of `tree`, which is the file system around it; return it.

    That is the one called `wanted`, or what the first of `entries` names that names one, or the only one. Its own
    folder is the root; ``var`` of its system becomes /var, and /etc is as it was deployed, or where it is made anew
    with each boot, as that begins. The repository and everything else around it is left out.

    Raise UnsupportedFeature, with `where` the file system is, if there is none, or several and nothing that decides,
    and for one that is not checked out.
    """
    found = deployments(tree)
    if not found and any(tree.follow(path) is not None for path in _COMPOSEFS):
        raise UnsupportedFeature(
            f"{where}: a deployment of composefs without a checkout is not supported, which the backend of bootc makes",
            hint=_HINT,
        )
    chosen = _chosen(tree, found, wanted, entries)
    if chosen is None:
        listing = "; ".join(map(str, found[:20])) or "none"
        raise UnsupportedFeature(
            f"{where}: expected one deployment of ostree{f' called {wanted}' if wanted else ''}, or a boot entry that "
            f"names one; found {listing}",
            hint=declare("deployment", found[0].name) if found else _HINT,
        )
    root = chosen.root
    if b"usr" not in root.children:
        what = "composefs without a checkout" if _IMAGE in root.children else "no /usr"
        raise UnsupportedFeature(f"{where}: {chosen} has {what}, which is not supported", hint=_HINT)
    tree.root = root
    root.children.pop(_IMAGE, None)
    usr = root.children[b"usr"]
    if b"etc" not in root.children and usr.is_dir and (pristine := usr.children.get(b"etc")) is not None:
        root.children[b"etc"] = _copy(tree, pristine)
    if chosen.var is not None:
        tree.mount(b"var", chosen.var)
    return chosen


def _chosen(tree: Tree, found: list[Deployment], wanted: str, entries: Iterable[Entry]) -> Deployment | None:
    if wanted:
        matching = [each for each in found if each.name == wanted.encode(errors="surrogateescape")]
        return matching[0] if len(matching) == 1 else None
    for entry in entries:
        path = cmdline.value(entry.options, "ostree")
        node = tree.follow(path.encode(errors="surrogateescape")) if path else None
        for each in found:
            if each.root is node:
                return each
    return found[0] if len(found) == 1 else None


def _folders(node: Node | None) -> list[tuple[bytes, Node]]:
    return [(name, each) for name, each in sorted(node.children.items()) if each.is_dir] if node is not None else []


def _copy(tree: Tree, node: Node) -> Node:
    """Return a copy of a folder and of what is below it, that shares no file with it."""
    copied: dict[int, Node] = {}

    def of(each: Node) -> Node:
        if id(each) not in copied:
            tree.spend(NAME_WEIGHT)
            copied[id(each)] = replace(each, xattrs=dict(each.xattrs), children={})
        return copied[id(each)]

    todo = [node]
    while todo:
        here = todo.pop()
        of(here).children.update((name, of(child)) for name, child in here.children.items())
        todo += [child for child in here.children.values() if child.is_dir]
    return of(node)
