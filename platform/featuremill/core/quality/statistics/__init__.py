"""What workers compute of the rows for checks: the metrics of Great Expectations as mergeable statistics."""
