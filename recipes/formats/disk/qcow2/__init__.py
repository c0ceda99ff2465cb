"""QCOW2: header, tables, overlays."""
