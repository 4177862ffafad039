"""The dashboard: a page of this package's own files, and the data that it shows."""
