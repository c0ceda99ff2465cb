"""The kinds of artifact: one row for each, and everything that lists kinds reads it.

A new kind is a row here, a module of its name in recipes/derive/ with a ``RECIPE``, and its tests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .model import Kind


class Row(NamedTuple):
    """What is to be known of a kind of artifact, beside how it is made."""

    name: str
    #: Of the artifact, in its entry.
    file: str
    #: By kind of image: the kind that it is made from, None for what is downloaded. An image of another kind has none.
    made_from: Mapping[Kind, str | None]
    #: For `larder list`: of one image, {title} being the image's, and of all.
    doc: str
    group: str
    #: For `larder help KIND:IMAGE`: {path} is where it is, {image} its image, {reference} what clients call it in OCI.
    clients: str
    #: What tells its size before it is there; None for what is known once the files were read.
    size: Literal["wrapper", "content", "disk"] | None = None
    #: Whether it takes less room than it has bytes.
    is_sparse: bool = False
    #: Whether a clone may be larger: a disk whose size says nothing of what is in it.
    is_resizable: bool = False
    #: Whether it is a bare ext4, which grows with a larger clone.
    is_file_system: bool = False
    #: Whether whoever takes a clone of it writes to that.
    is_written: bool = False
    #: Whether it holds compressed data already, so that it travels as it is and not as zstd.
    is_compressed: bool = False
    #: What podman calls it, if it can make a machine of it.
    disktype: str | None = None
    #: The attribute of an image that says how large it may be, beside max-virtual-size.
    own_size: str | None = None
    #: What `clone --format` calls it, where its name is that of an overlay.
    cloned_as: str | None = None

    @property
    def format(self) -> str:
        """What `clone --format` calls it."""
        return self.cloned_as or self.name


_ROWS = (
    Row(
        name="fetch",
        file="wrapper",
        made_from={"disk": None, "rootfs": None, "oci": None},
        doc="the original of {title}, kept",
        group="The original of each image, kept.",
        clients="""
The original, as upstream serves it: {path}

  larder clone:{image} --format fetch --to FILE
""",
        size="wrapper",
        is_compressed=True,
    ),
    Row(
        name="content",
        file="content",
        made_from={"disk": "fetch", "rootfs": "fetch", "oci": "fetch"},
        doc="{title}, decompressed",
        group="Each image, decompressed.",
        clients="""
The original without its outer compression: {path}

  larder clone:{image} --format content --to FILE
""",
        size="content",
    ),
    Row(
        name="raw",
        file="disk.raw",
        made_from={"disk": "content"},
        doc="{title} as a sparse RAW disk",
        group="Each disk image as a sparse RAW file.",
        clients="""
A sparse RAW disk: {path}
Clone it, do not write to it: the cache hands it out again.

  a disk of its own       larder clone:{image} --to vm/disk.raw --size 40G
  an overlay, for QEMU    larder clone:{image} --format qcow2 --to vm/disk.qcow2
  Lima                    larder lima:{image}
                          larder lima:{image} --template
""",
        size="disk",
        is_sparse=True,
        is_resizable=True,
        is_written=True,
        disktype="raw",
    ),
    Row(
        name="vhd",
        file="disk.vhd",
        made_from={"disk": "raw"},
        doc="{title} as a fixed VHD, for Azure",
        group="Each disk image as a fixed VHD, for Azure.",
        clients="""
A fixed VHD, a disk of whole MiB: {path}

  a disk of its own   larder clone:{image} --format vhd --to disk.vhd
  Azure               azcopy copy {path} "URL/{image}.vhd?SAS" --blob-type PageBlob
                      az image create -g GROUP -n {image} --os-type Linux --hyper-v-generation V2 \\
                        --source URL/{image}.vhd
  QEMU                -drive file=disk.vhd,format=vpc      (nothing at its beginning tells the format)

URL is that of the container: https://ACCOUNT.blob.core.windows.net/CONTAINER
""",
        is_sparse=True,
        is_written=True,
    ),
    Row(
        name="hyperv",
        file="hyperv.vhdx",
        made_from={"disk": "raw"},
        doc="{title} as a dynamic VHDX of the whole disk, for Hyper-V",
        group="Each disk image as a dynamic VHDX of the whole disk, for Hyper-V.",
        clients="""
A dynamic VHDX of the whole disk: {path}
A machine that runs writes to its disk, so clone it first, onto a Windows drive.

  a disk of its own   larder clone:{image} --format hyperv --to {image}.vhdx
  Hyper-V             New-VM -Name {image} -Generation 2 -MemoryStartupBytes 2GB -VHDPath {image}.vhdx
                      Set-VMFirmware {image} -SecureBootTemplate MicrosoftUEFICertificateAuthority
""",
        is_written=True,
    ),
    Row(
        name="qcow2",
        file="disk.qcow2",
        made_from={"disk": "raw"},
        doc="{title} as a QCOW2 with compressed clusters",
        group="Each disk image as a QCOW2 with compressed clusters.",
        clients="""
A QCOW2 with compressed clusters, to be stored and sent: {path}
A machine that runs writes to its disk, so clone it first. A clone of the RAW is there sooner: larder help raw:{image}

  a disk of its own   larder clone:{image} --format compressed-qcow2 --to disk.qcow2
  QEMU                -drive file=disk.qcow2,format=qcow2
  libvirt             virt-install --import --disk disk.qcow2 --name {image} --memory 2048 --osinfo linux2022
  Proxmox             qm importdisk VMID {path} STORAGE
  OpenStack           openstack image create --disk-format qcow2 --container-format bare --file {path} {image}

zstd is read by QEMU 5.1 and later; `qcow2-compression = "zlib"` in images.toml is for what reads no zstd.
""",
        is_written=True,
        is_compressed=True,
        disktype="qcow2",
        cloned_as="compressed-qcow2",
    ),
    Row(
        name="vmdk",
        file="disk.vmdk",
        made_from={"disk": "raw"},
        doc="{title} as a streamOptimized VMDK, for vSphere and OVAs",
        group="Each disk image as a streamOptimized VMDK, for vSphere and OVAs.",
        clients="""
A streamOptimized VMDK, which is imported and not written to: {path}

  a file of its own   larder clone:{image} --format vmdk --to {image}.vmdk
  vSphere             govc import.vmdk {path} FOLDER
  ESXi                vmkfstools -i {image}.vmdk -d thin disk.vmdk
  VirtualBox          VBoxManage clonemedium disk {path} {image}.vdi --format VDI
  AWS                 aws ec2 import-snapshot --disk-container Format=VMDK,Url=s3://BUCKET/{image}.vmdk
""",
        is_compressed=True,
    ),
    Row(
        name="rootfs",
        file="rootfs.tar",
        made_from={"disk": "raw", "rootfs": "content", "oci": "content"},
        doc="the root file system of {title} as a tar archive",
        group="The root file system of each image as a tar archive.",
        clients="""
The root file system as a tar archive: {path}

  WSL2              wsl.exe --import {image} DIR "$(wslpath -w {path})"
  Lima (WSL2)       images: [{{location: {path}}}]
  docker            docker import {path} {image}
  podman            podman import {path} {image}
  Containerfile     ADD {path} /                    (after FROM scratch)

Of a disk, `root = "partition 3"` in images.toml says which file system it is, where several could be.
""",
        disktype="tar",
    ),
    Row(
        name="ext4",
        file="root.ext4",
        made_from={"disk": "rootfs", "rootfs": "rootfs", "oci": "rootfs"},
        doc="the root file system of {title} as a bare ext4, for microVMs",
        group="The root file system of each image as a bare ext4, for microVMs.",
        clients="""
ext4 without a partition table, in a sparse file: {path}
A guest writes to its root, so clone it first. It is as large as ext4-size in images.toml says, takes the room of its
files, and grows: with its clone by --size, or in the guest by resize2fs.

  a root of its own   larder clone:{image} --format ext4 --to vm/root.ext4 --size 20G

  Firecracker         "drives": [{{"drive_id": "root", "path_on_host": "vm/root.ext4", "is_root_device": true,
                       "is_read_only": false}}]          (boot_args: root=/dev/vda rw console=ttyS0)
  cloud-hypervisor    cloud-hypervisor --kernel KERNEL --cmdline "root=/dev/vda rw console=hvc0" \\
                        --disk path=vm/root.ext4
  QEMU                qemu-system-x86_64 -M microvm -nographic \\
                        -kernel KERNEL -append "root=/dev/vda rw console=ttyS0" \\
                        -drive id=root,file=vm/root.ext4,format=raw,if=none -device virtio-blk-device,drive=root
  crosvm              crosvm run --block path=vm/root.ext4,root KERNEL
  krunkit, vfkit      --device virtio-blk,path=vm/root.ext4
""",
        is_sparse=True,
        is_resizable=True,
        is_file_system=True,
        is_written=True,
        own_size="ext4_size",
    ),
    Row(
        name="vhdx",
        file="disk.vhdx",
        made_from={"disk": "rootfs", "rootfs": "rootfs", "oci": "rootfs"},
        doc="{title} as a disk for WSL2 (ext4 in a dynamic VHDX)",
        group="Each image as a disk for WSL2.",
        clients="""
ext4 in a dynamic VHDX: {path}
A distribution that runs writes to its disk, and `wsl --unregister` deletes it. So clone it first; only `--import --vhd`
makes its own copy.

  WSL2, in place    larder clone:{image} --format vhdx --to DIR/ext4.vhdx
                    wsl.exe --import-in-place {image} "$(wslpath -w DIR/ext4.vhdx)"
  WSL2, copied      wsl.exe --import {image} DIR "$(wslpath -w {path})" --vhd

DIR is a folder on a Windows drive that no other distribution uses.
""",
        is_written=True,
        disktype="vhdx",
        own_size="vhdx_size",
    ),
    Row(
        name="oci",
        file="oci.tar",
        made_from={"disk": "rootfs", "rootfs": "rootfs", "oci": "rootfs"},
        doc="{title} as an archive for docker, podman, skopeo and Apple container",
        group="Each image as an archive for docker, podman, skopeo and Apple container.",
        clients="""
An OCI image layout and docker archive in one: {path}

  docker            docker load -i {path}
  podman            podman load -i {path}
  skopeo            skopeo copy oci-archive:{path} docker://REGISTRY/{image}
  Apple container   container image load -i {path}

  run it            docker run -it {reference}      (podman, container alike)
  build on it       FROM {reference}                (docker build, podman build, container build)
""",
        is_compressed=True,
    ),
)

#: By name; inputs come before what is made from them.
KINDS: Mapping[str, Row] = {row.name: row for row in _ROWS}

#: What people call an image of each kind.
IMAGES: Mapping[Kind, str] = {"disk": "disk image", "rootfs": "tarball", "oci": "container image"}

#: For an image of each kind: the kinds of artifact that it can have, each with the kind that it is made from; inputs
#: before what is made from them.
DERIVABLE: Mapping[Kind, Mapping[str, str | None]] = {
    image: {row.name: row.made_from[image] for row in _ROWS if image in row.made_from} for image in IMAGES
}
