"""Sharing artifacts through an OCI registry: the manifest, push and pull."""
