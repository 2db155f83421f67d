"""The workload's identity, for use without pilot-agent: its own certificate and what it trusts, as secrets of this process."""
