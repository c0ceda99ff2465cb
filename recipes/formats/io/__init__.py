"""Files: sparse, shared, hashed, decoded in threads; which format a file has."""
