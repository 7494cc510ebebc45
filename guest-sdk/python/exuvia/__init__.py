"""Actors of Exuvia in Python: processes with a mailbox, links, monitors, and code that is swapped while the state is kept."""

from . import log
from .actors import Request, actor, keep, message, request, sender, transient
from .constants import Access, Info, Priority, Tag
from .errors import HostError, Refusal, Refused, Timeout
from .http import HttpRequest, Response
from .pid import NONE, Pid
from .process import (
    Child, Ended, Reason, ask, cancel_timer, config, demonitor, exit, exit_process, info, join, kill, leave, link, members,
    monitor, own_pid, pack, publish, register, send, send_after, send_bytes, set_priority, spawn, start_supervisor, trap_exit,
    unlink, unpack, unregister, whereis,
)
from .running import Reply, TableGiven, stop
from .shape import check
from .table import Table
from .waiting import Received, call, call_sync, gather, receive, receive_sync, sleep, sleep_sync

__all__ = [
    "Access", "Child", "Ended", "HostError", "HttpRequest", "Info", "NONE", "Pid", "Priority", "Reason", "Received", "Refusal",
    "Refused", "Reply", "Request", "Response", "Table", "TableGiven", "Tag", "Timeout", "actor", "ask", "call", "call_sync",
    "cancel_timer", "check", "config", "demonitor", "exit", "exit_process", "gather", "info", "join", "keep", "kill", "leave",
    "link", "log", "members", "message", "monitor", "own_pid", "pack", "publish", "receive", "receive_sync", "register", "request",
    "send", "send_after", "send_bytes", "sender", "set_priority", "sleep", "sleep_sync", "spawn", "start_supervisor", "stop",
    "transient", "trap_exit", "unlink", "unpack", "unregister", "whereis",
]
