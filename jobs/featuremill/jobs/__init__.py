"""The jobs: what `featuremill run` runs, and its command line."""
