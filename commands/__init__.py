"""The commands of the terminal other than `run`: one module for each subject."""
