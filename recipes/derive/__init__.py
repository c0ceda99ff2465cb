"""One module per derivation, and the engine that runs them against the cache; doit is not known here."""
