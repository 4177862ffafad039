"""What the keys of roles and the variables of inventories mean, in a line each: for `explain`, errors and the reference."""
