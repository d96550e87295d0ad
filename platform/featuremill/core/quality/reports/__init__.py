"""The report of a run: its content, and the page, text and files that it becomes."""
