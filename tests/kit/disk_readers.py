"""Other projects' readers of disk images, which tests hold ours and what we write against."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from .oracles import lack, need

if TYPE_CHECKING:
    from pathlib import Path

#: Debian's Python, which has the bindings of libvmdk and libvhdi; a virtual environment does not see them.
_PYTHON = "/usr/bin/python3"
_MODULES = {"vmdk": "pyvmdk", "vhd": "pyvhdi", "vhdx": "pyvhdi"}
_SCRIPT = """
import importlib, sys
module, path = sys.argv[1:]
found = importlib.import_module(module)
file = found.handle() if module == "pyvmdk" else found.file()
file.open(path)
if module == "pyvmdk":
    file.open_extent_data_files()
while data := file.read_buffer(1 << 20):
    sys.stdout.buffer.write(data)
"""


def by_libyal(path: Path, form: str) -> bytes:
    """Return the disk that libvmdk or libvhdi finds in `path`, in the format `form`."""
    need(_PYTHON)
    module = _MODULES[form]
    if subprocess.run([_PYTHON, "-c", f"import {module}"], capture_output=True, check=False).returncode:
        lack(f"{_PYTHON} has no {module}")
    done = subprocess.run([_PYTHON, "-c", _SCRIPT, module, path], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def by_dissect(path: Path, form: str) -> bytes:
    """Return the disk that dissect.hypervisor finds in `path`, in the format `form`."""
    from dissect.hypervisor.disk.qcow2 import QCow2
    from dissect.hypervisor.disk.vdi import VDI
    from dissect.hypervisor.disk.vhd import VHD
    from dissect.hypervisor.disk.vhdx import VHDX
    from dissect.hypervisor.disk.vmdk import VMDK

    open_: dict[str, Any] = {
        "qcow2": lambda file: QCow2(file).open(),
        "vdi": lambda file: VDI(file).open(),
        "vhd": VHD,
        "vhdx": VHDX,
        "vmdk": VMDK,
    }
    with path.open("rb") as file:
        disk = open_[form](file)
        # Of a VDI, 3.21 reads one block at a time as it should, and of several what follows the first one in the file.
        return b"".join(iter(lambda: disk.read(1 << 20), b""))
