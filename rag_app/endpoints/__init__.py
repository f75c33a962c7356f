"""The three HTTP endpoints: where they are, how their failures read, and a client of each."""
