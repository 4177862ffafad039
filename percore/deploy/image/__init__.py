"""The container image of an app: the artifact of a deploy with its interpreter, in the layout of the OCI."""
