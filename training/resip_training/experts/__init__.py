"""Scripted experts: one module a task, each with ``plan(scene)``; see ``motion`` for what they share."""
