"""ext2, ext3 and ext4: reader and writer."""
