"""Telling people and programs how a run ended, and what is wrong with a host."""
