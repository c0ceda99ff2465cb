"""The bytes as downloaded: what they claim, and the content inside."""
