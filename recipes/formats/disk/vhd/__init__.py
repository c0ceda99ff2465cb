"""VHD, fixed and dynamic: what Azure's images come in."""
