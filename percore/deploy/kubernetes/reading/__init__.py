"""From the hosts of an environment and the built apps to projects."""
