"""Ansible inventories, read as Ansible reads them: hosts, groups, patterns, and every variable with where it was set."""

from percore.deploy.inventory.ansible_cfg import differences
from percore.deploy.inventory.load import environments, find_inventory, load_inventory, name_of
from percore.deploy.inventory.model import Group, Inventory

__all__ = ["Group", "Inventory", "differences", "environments", "find_inventory", "load_inventory", "name_of"]
