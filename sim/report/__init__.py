"""What makes the report: page, charts, pictures."""
