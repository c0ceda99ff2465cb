"""The task creators."""
