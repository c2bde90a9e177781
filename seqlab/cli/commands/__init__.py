"""The commands, a file each, named as the command and with it in."""
