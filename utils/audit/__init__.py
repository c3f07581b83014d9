"""Tells what the accuracy of anybody's classifier is worth: `doors.py` asks the model, `images.py` says about what,
`sections.py` judges the answers, `pages.py` writes them down. `python -m utils.audit MODEL` is the command."""
