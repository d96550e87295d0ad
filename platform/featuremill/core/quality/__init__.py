"""Data quality: checks, profiles and reports that ride on the passes that a job makes anyway."""
