"""The cache: entries and their locks, receipts, records of clones and of use, who shares it, what may go."""
