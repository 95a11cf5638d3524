"""Scores beside their floors, pictures, and the report."""
