"""What schemathesis has to be told: how a module is sent."""

import schemathesis


@schemathesis.serializer("application/wasm")
def wasm(context, value):
    """A text of any kind, or bytes: no module, but a body."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")
