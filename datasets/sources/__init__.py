"""From a publisher to `raw/`: fetch, unpack, and the layout of each publisher's files."""
