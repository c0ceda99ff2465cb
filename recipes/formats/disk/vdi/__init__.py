"""VDI, dynamic and static: VirtualBox's disks."""
