"""Suites of Great Expectations: read, planned, judged, kept and shown as its own pages."""
