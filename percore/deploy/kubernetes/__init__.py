"""What runs on the hosts, as objects of Kubernetes: the same process file and inventory, written as YAML."""
