"""Timeouts, retries and limits of calls to endpoints that no setting changes: a fork changes them here."""

# Sent again so often, if it failed for what may pass by itself.
RETRIES = 2
# Seconds: a server that asks to wait for longer is not waited for.
MAX_WAIT = 30.0
# Seconds to connect; `timeout` in the settings is for the answer.
CONNECT_TIMEOUT = 5.0
# Bytes of a reply.
MAX_REPLY = 50_000_000

# A reranker that failed so often in a row is left alone for so many seconds.
BREAKER_FAILURES = 2
BREAKER_SECONDS = 10.0
# Documents are cut to this many tokens, if no budget is set, when a server says that they are too long.
CUT_TOKENS = 400
BATCHES_AT_ONCE = 4

# Seconds that the doctor waits where it only tries: the list of models, another address.
TRY_TIMEOUT = 5.0
# Seconds that the gateway of the built-in models has to start.
START_TIMEOUT = 30.0
