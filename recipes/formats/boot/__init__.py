"""What a disk says of what it boots: entries of boot loaders, and the command lines in them."""
