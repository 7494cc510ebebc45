"""A process that counts. `exuvia dev` builds and runs it; change something here while it runs, and it goes on with the
new code and the count that it has."""

from exuvia import actor, log, message, request


# The fields are what the process remembers. New code gets them as they are: raise `schema` and write a class method
# `load(cls, saved, schema)` when they change their meaning.
@actor(schema=1)
class Counter:
    count: int = 0

    @message
    def add(self, by: int) -> None:
        """Counts on: `exuvia call counter add by=3`."""
        self.count += by
        log.info(f"the count is {self.count}")

    @request
    def get(self) -> int:
        """The count: `exuvia call counter get`."""
        return self.count
