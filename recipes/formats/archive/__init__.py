"""The disk in an archive: tar, zip, OVA, Vagrant box."""
