"""The control machine: inventory -> plan -> render -> push -> activate -> verify."""
