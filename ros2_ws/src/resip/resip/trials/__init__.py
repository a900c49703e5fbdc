"""Trials: how one runs, how it is judged and measured, and how it is shown."""
