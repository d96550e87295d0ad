"""BigQuery: tables and queries as sources of record batches, straight from the Storage Read API.

Google's packages come with the extra ``gcp`` and are imported when a client is first needed.
"""
