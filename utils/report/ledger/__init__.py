"""The ledger of runs: which runs the tables ask for, in order of value, which are done, what the others cost.

`plan.py` is the list. `rows.py` makes the command of a row, `states.py` says how far it is and what it lacks,
`costs.py` what it takes, `work.py` runs it. `python -m utils.report.ledger --help` tells the rest.
"""
