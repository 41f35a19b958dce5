"""What the command line returns."""

OK = 0
FINDINGS = 1  # findings, errors of the run, drift
USAGE = 2  # wrong usage or a broken spec
