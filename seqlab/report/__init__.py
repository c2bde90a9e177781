"""The numbers of results as people and programs read them: tables, JSON."""
