"""Rooms between notebooks and models. Imports go one way: report → evaluation → training → recipes."""

import os
import sys

if sys.argv[0] == "-m":  # a command is about to be imported, whose figures go to files, whatever shows a notebook's
    os.environ["MPLBACKEND"] = "agg"
