"""Answers in volumes, scored in millimetres and millilitres."""
