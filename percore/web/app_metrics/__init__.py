"""The metrics of an app's own workers on one page, with counters that never fall."""
