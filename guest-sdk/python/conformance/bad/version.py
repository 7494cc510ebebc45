"""What differs between the versions of the guest."""

VERSION, REPLY, SCHEMA = 3, 3, 3
