"""What `invoke` runs here; `invoke --list` shows it. Tasks of your own: namespace.add_task(...)."""
from percore.tasks import make_namespace
namespace = make_namespace(__file__)
