"""Ansible inventories, read as Ansible reads them: hosts, groups, patterns, and every variable with where it was set."""

from percore.deploy.inventory.load import find_inventory, load_inventory
from percore.deploy.inventory.model import Group, Inventory

__all__ = ["Group", "Inventory", "find_inventory", "load_inventory"]
