"""The packed form of a data set: `preprocess.py` and `packing.py` write it, `index.py` and `images.py` read it."""
