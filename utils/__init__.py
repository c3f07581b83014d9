"""Rooms between notebooks and models. Imports go one way: reporting → analysis → evaluation → training → recipes."""
