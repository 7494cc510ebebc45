"""What differs between the versions of the guest."""

VERSION, REPLY, SCHEMA = 1, 101, 1
