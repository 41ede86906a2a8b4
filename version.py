"""The version of Dreamlog, in one place.

It must not import anything: setup.cfg reads it without running the code.
"""

VERSION = "1.0.0"
