"""Rooms between notebooks and models. Imports go one way: report → evaluation → training → recipes."""
