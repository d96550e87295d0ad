"""Scoring rows as they arrive: endless sources, models and artifacts that change meanwhile, files that appear whole."""
