from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.kit.project import disk

if TYPE_CHECKING:
    from tests.kit.project import Project


def test_all_that_can_be_made(bare: Project) -> None:
    bare.declare("b", disk("b"), title="A disk")
    out = bare.larder_ok("list", "--all")
    for name in ("raw:a", "raw:b", "fetch:a", "rootfs:b"):
        assert name in out
    assert "A disk" in out
    assert "_sums" not in out
    assert not list(bare.cache.glob("images/*/*/*.raw")), "nothing is made"


def test_a_row_for_each_image(bare: Project) -> None:
    bare.declare("b", disk("b"), title="A disk")
    arm = '[images.c.aarch64]\nurl = "https://example.org/c.img"\ndigest = "sha256:' + "0" * 64 + '"\n'
    bare.write(arm)
    bare.larder_ok("raw:b", "fetch:b")
    rows = [line.split("  ") for line in bare.larder_ok("list").splitlines()]
    found = {row[0]: [cell.strip() for cell in row[1:] if cell.strip()] for row in rows}
    assert found == {
        "NAME": ["ARCHITECTURES", "CACHED", "TITLE"],
        "c": ["aarch64"],
        "a": ["x86_64"],
        "b": ["x86_64", "fetch raw", "A disk"],
    }
    assert "fetch content raw" in bare.larder_ok("list", "-v")


def test_json_for_scripts(bare: Project) -> None:
    bare.declare("b", b"tar", "b.tar", kind="rootfs", title="B", derive=["rootfs", "oci"], prewarm=True)
    bare.larder_ok("raw:a")
    document = json.loads(bare.larder_ok("list", "--json"))
    assert document["arch"] == "x86_64"
    assert document["declared_in"] == str(bare.folder / "images.toml")
    one, two = document["images"]
    assert (one["name"], one["cached"], one["derive"], one["prewarm"]) == ("a", ["raw"], ["raw"], False)
    assert (two["title"], two["kind"], two["cached"], two["prewarm"]) == ("B", "rootfs", [], True)
    assert two["derive"] == ["rootfs", "oci"]
    # What is declared for another machine only has nothing for this one.
    assert json.loads(bare.larder_ok("list", "--json", "--arch", "aarch64"))["images"][0]["cached"] == []
    for words in (("--all",), ("raw",)):
        result = bare.larder("list", "--json", *words)
        assert (result.status, result.out) == (3, "")
        assert "--json is the list of images" in result.err


def test_tasks_of_ones_own(project: Project) -> None:
    project.declare("a", disk("a"))
    with (project.folder / "dodo.py").open("a") as file:
        file.write('\n\ndef task_mine():\n    """What I make."""\n    return {"actions": ["true"]}\n')
    assert project.ok("list").endswith("\n\nTasks of dodo.py\n  mine  What I make.\n")
    assert "raw:a" in project.ok("list", "raw")


def test_nobody_need_read_it_to_its_end(bare: Project) -> None:
    for number in range(60):
        bare.declared[f"i{number}"] = bare.declared["a"]
    bare.write()
    program = [sys.executable, "-m", "recipes.graph.program", "list", "--all"]
    with subprocess.Popen(
        program, cwd=bare.folder, env=bare.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()


def test_it_loads_nothing_that_is_slow_to_import(bare: Project) -> None:
    code = (
        "import sys\nfrom recipes.graph.program import Program\nstatus = Program().run(['list', '--all'])\n"
        "slow = {'requests', 'jsonschema', 'rich', 'zstandard', 'urllib3', 'deflate', 'isal'} & sys.modules.keys()\n"
        "sys.stderr.write(f'slow: {sorted(slow)}')\nsys.exit(status)"
    )
    # The first run validates images.toml, which takes the schema; all others know that it is valid.
    for run in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=bare.folder, env=bare.environ, capture_output=True, text=True, check=True
        )
        assert "raw:a" in done.stdout
        if run:
            assert done.stderr == "slow: []"
