"""What finished calculations mean: coordination, barriers, voltage, tables, report."""
