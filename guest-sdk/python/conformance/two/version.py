"""What differs between the versions of the guest."""

VERSION, REPLY, SCHEMA = 2, 2, 2
