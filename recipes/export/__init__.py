"""What leaves the cache: artifacts as instances and other programs take them; doit is not known here."""
