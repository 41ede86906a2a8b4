"""The version of Dreamlog: the one place that says it.

It must not import anything: setup.cfg reads it without running the code.
"""

VERSION = "1.0.0"
