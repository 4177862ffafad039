"""One module for each kind of object. Pure: a `Project` and a `Workload` in, mappings out."""
