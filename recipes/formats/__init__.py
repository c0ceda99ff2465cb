"""The bytes of disk images and their wrappers; nothing here knows of caches or of doit."""
