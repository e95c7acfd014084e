from fastmcp import FastMCP
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.mcp_environment import MCPEnvironment
from openenv.core.env_server.mcp_types import CallToolAction, CallToolObservation
from openenv.core.env_server.types import EnvironmentMetadata, Observation, State


class ToolsEnvironment(MCPEnvironment):
    """Adds, and remembers the sum."""

    def __init__(self):
        server = FastMCP("tools")
        self.sum = 0

        @server.tool
        def add(number: int) -> int:
            """Add a number to the sum."""
            self.sum += number
            return self.sum

        @server.tool
        def fail() -> str:
            """Raise."""
            raise ValueError("as asked")

        super().__init__(server)

    def reset(self, seed=None, episode_id=None, **options):
        self.sum = 0
        return Observation(metadata={"ready": True}, done=False, reward=0.0)

    def _step_impl(self, action, timeout_s=None, **options):
        return Observation(metadata={"action": type(action).__name__})

    @property
    def state(self):
        return State(step_count=self.sum)

    def get_metadata(self):
        return EnvironmentMetadata(name="Sums", description="Adds.", author="somebody")

    def list_splits(self):
        return ["train", "dev", {"name": "held out", "type": "test"}]

    def list_tasks(self, split):
        return [{"id": n, "split": split} for n in range(3)]

    def num_tasks(self, split):
        return 3

    def get_task(self, split, index):
        return self.list_tasks(split)[index]

    async def get_task_range(self, split, start=None, stop=None):
        return self.list_tasks(split)[start:stop]


app = create_app(ToolsEnvironment, CallToolAction, CallToolObservation, env_name="tools_env")
