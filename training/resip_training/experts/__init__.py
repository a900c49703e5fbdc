"""Scripted experts: one module a task, each with ``act(scene)``; see ``motion`` and ``screw`` for what they share."""
