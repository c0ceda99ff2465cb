"""OCI image layouts and docker archives: as trees, and from them."""
