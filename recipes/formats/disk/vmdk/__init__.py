"""VMDK, sparse and stream-optimized: VMware's disks, and those of OVAs."""
