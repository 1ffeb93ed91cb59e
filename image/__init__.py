"""What the box and its test guest are made from: Debian packages, ZFS modules, Python wheels."""
