"""The packed form of a set: `preprocess` and `packing` write it, `manifest` lists it, `index` and `images` read it."""
