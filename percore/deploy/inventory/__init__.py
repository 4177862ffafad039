"""Ansible inventories, read as Ansible reads them: hosts, groups, patterns, and every variable with where it was set."""

from percore.deploy.inventory.model import Group, Inventory
from percore.deploy.inventory.sources import find_inventory, load_inventory

__all__ = ["Group", "Inventory", "find_inventory", "load_inventory"]
