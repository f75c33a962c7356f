"""Timeouts, retries and limits of calls to endpoints that no setting changes: a fork changes them here."""

# Sent again so often, if it failed for what may pass by itself.
RETRIES = 2
# Seconds: a server that asks to wait for longer is not waited for.
MAX_WAIT = 30.0
# Where nobody waits for the answer, as at ingest, a limit is waited out for so many seconds in all; without a word of how
# long, so many at most at a time.
MAX_PATIENCE = 300.0
RATE_WAIT = 12.0
# Seconds over which it is counted what a server took before it refused more: limits are per minute, or shorter.
RATE_WINDOW = 60.0
# Bytes of a request that are a token at least, in any language.
BYTES_A_TOKEN = 3
# So often in a row, and what was a guess is taken for true.
SAMPLES = 2
# Seconds of waiting that are told.
TELL_WAIT = 2.0
# Seconds to connect; `timeout` in the settings is for the answer.
CONNECT_TIMEOUT = 5.0
# Bytes of a reply.
MAX_REPLY = 50_000_000
# Bytes of a chat model's reply, and how many times the time-out for its next piece all of it may take.
MAX_ANSWER = 5_000_000
ANSWER_TIMES = 10

# A reranker that failed so often in a row is left alone for so many seconds.
BREAKER_FAILURES = 2
BREAKER_SECONDS = 10.0
# Documents are cut to this many tokens, if no budget is set, when a server says that they are too long.
CUT_TOKENS = 400
# Then to half of them, and so on down to these.
LEAST_TOKENS = 8
# As many as a rerank request takes where nothing is known.
MANY = 1_000_000
BATCHES_AT_ONCE = 4
# Seconds after which a limit that a server was found to have is tried again.
FORGET_AFTER = 600.0

# Seconds that the doctor waits where it only tries: the list of models, another address.
TRY_TIMEOUT = 5.0
# Seconds that the gateway of the built-in models has to start.
START_TIMEOUT = 30.0
