"""The SDK with the host of exuvia.testing."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent / "scripts"))

from exuvia import Refused, actors, codec, running, traces  # noqa: E402
from exuvia.constants import Code, Kind, RunResult, Tag  # noqa: E402
from exuvia.testing import OTHER_PID, OWN_PID, Delivery, TestProcess, host  # noqa: E402

import many  # noqa: E402


class Actor(unittest.TestCase):
    def setUp(self):
        self.process = TestProcess(many.Many)

    def test_messages_change_the_state_and_requests_read_it(self):
        self.process.send("Add", by=3)
        self.process.send("Add", by=-1, times=5)
        self.process.send({"Set": 7})
        self.process.send("Add", by=1)
        self.assertEqual(self.process.request("Get"), 8)

    def test_values_are_checked_against_the_annotations(self):
        item = {"name": "a", "parts": [{"name": "b", "price": 2, "unknown": None}]}
        reply = self.process.request("Put", item=item, color="red", size=None, data=[1, 2])
        b = {"name": "b", "price": 2.0, "parts": []}
        self.assertEqual(reply, [{"name": "a", "price": 0.0, "parts": [b]}, "red", None, b"\x01\x02"])
        for wrong, path in (
            ({"item": item, "color": "green"}, "color"),
            ({"item": {"price": 1}, "color": "red"}, "item.name"),
            ({"item": {"name": "a", "parts": [{"name": 3}]}, "color": "red"}, "item.parts[0].name"),
            ({"item": item, "color": "red", "size": "m"}, "size"),
            ({"item": item, "color": "red", "data": [256]}, "data"),
            ({"color": "red"}, "item"),
        ):
            with self.assertRaisesRegex(Refused, path.replace("[", r"\[")):
                self.process.request("Put", **wrong)
        self.assertEqual(len(self.process.state.items), 1)

    def test_what_is_unknown_or_garbage_is_refused(self):
        for payload in (b"", b"\xc1", b"\xdd\xff\xff\xff\xff", codec.pack("Nothing"), codec.pack({"Add": {"by": 1}}), codec.pack(3)):
            reference = next(host.references)
            self.process.deliver(Delivery(Kind.REQUEST, reference=reference, payload=payload))
            self.assertEqual((host.replies[-1].reference, host.replies[-1].tag), (reference, Tag.REFUSED))
            self.process.deliver(Delivery(payload=payload))
        self.process.deliver(Delivery(tag=5, payload=b"\xc1"))
        self.process.deliver(Delivery(Kind.REQUEST, tag=5, reference=9))
        self.process.deliver(Delivery(99, payload=b"later"))
        self.assertEqual(self.process.request("Get"), 1)

    def test_a_start_with_wrong_arguments_fails(self):
        for arguments in ("nonsense", {"count": "a"}):
            process = TestProcess(many.Many, arguments)
            self.assertEqual(host.acknowledged[0], 256)
            self.assertIn("Many" if arguments == "nonsense" else "count", host.acknowledged[1])
            self.assertEqual(process._running.run(), RunResult.DONE)
        TestProcess(many.Many, {"count": 4})
        self.assertEqual(host.acknowledged, (0, ""))

    def test_a_request_is_answered_later(self):
        with self.assertRaises(TimeoutError):
            self.process.request("Later")
        self.process.send("Set", count=5)
        self.process.send({"Set": 5})
        self.process.send("Now")
        self.assertEqual(host.replies[-1].value, 5)

    def test_a_call_keeps_no_stack_and_others_wait(self):
        host.names.update(a=OTHER_PID, b=OWN_PID)
        with self.assertRaises(TimeoutError):
            self.process.request("Sum", others=["a", "b"])
        self.assertEqual(self.process.send("Add", by=1), RunResult.WAITING)
        asked = [sent for sent in host.sent if sent.call == "request"]
        self.assertEqual([sent.to for sent in asked], [OTHER_PID, OWN_PID])
        for sent, value in zip(reversed(asked), (30, 12)):
            reply = Delivery(Kind.REPLY, reference=sent.reference, payload=codec.pack(value))
            result = self.process.deliver(reply)
        self.assertEqual((result, host.replies[-1].value), (RunResult.REST, 42))
        self.assertEqual(self.process.request("Get"), 1)

    def test_a_call_is_refused_ends_or_is_too_late(self):
        def outcome(delivery):
            with self.assertRaises(TimeoutError):
                self.process.request("Tried", other=OTHER_PID)
            call = [sent for sent in host.sent if sent.call == "request"][-1]
            timer = [sent for sent in host.sent if sent.call == "send_after"][-1]
            delivery.reference = timer.reference if delivery.kind == Kind.TIMER else call.reference
            self.assertEqual(self.process.deliver(delivery), RunResult.REST)
            return host.replies[-1].value

        self.assertEqual(outcome(Delivery(Kind.REPLY, tag=Tag.REFUSED, payload=b"no")), "no")
        self.assertEqual(outcome(Delivery(Kind.DOWN, reason=4)), "call: NOPROC")
        self.assertEqual(outcome(Delivery(Kind.TIMER, tag=Tag.AWAITED)), "call: TIMEOUT")
        self.assertEqual(outcome(Delivery(Kind.REPLY, payload=codec.pack(3))), "3")

    def test_a_reply_that_is_no_message_pack_harms_only_the_call(self):
        with self.assertRaises(TimeoutError):
            self.process.request("Tried", other=OTHER_PID)
        call = [sent for sent in host.sent if sent.call == "request"][-1]
        self.process.deliver(Delivery(Kind.REPLY, reference=call.reference, payload=b"\xc1"))
        self.assertEqual(host.replies[-1].value, "call: BAD_REPLY")

    def test_a_selection_takes_one_and_leaves_the_others(self):
        with self.assertRaises(TimeoutError):
            self.process.request({"Selected": {"tag": 7}})
        self.process.send("Add", by=1)
        self.process.deliver(Delivery(tag=7, payload=codec.pack("seven")))
        self.assertEqual(host.replies[-1].value, "seven")
        self.assertEqual(self.process.request("Get"), 1)

    def test_a_sleep_ends_with_its_timer(self):
        self.assertEqual(self.process.send("Slow"), RunResult.WAITING)
        self.assertEqual(host.sent[-1].delay, 500)
        self.assertEqual(self.process.fire(), RunResult.REST)
        self.assertEqual(self.process.request("Get"), 100)

    def test_a_concurrent_actor_handles_others_in_between(self):
        definition = actors.actor_of_script
        definition.concurrent = True
        self.addCleanup(setattr, definition, "concurrent", False)
        self.assertEqual(self.process.send("Slow"), RunResult.WAITING)
        self.assertEqual(self.process.send("Add", by=1), RunResult.WAITING)
        self.assertEqual(self.process.request("Get"), 1)
        self.assertEqual(self.process.fire(), RunResult.REST)
        self.assertEqual(self.process.request("Get"), 101)

    def test_events_come_to_their_handlers(self):
        self.process.deliver(Delivery(Kind.DOWN, reference=5, reason=300))
        self.assertEqual(self.process.state.count, 300)
        self.process.send("Ask", to=OTHER_PID)
        self.process.answer(12)
        self.assertEqual(self.process.state.count, 12)
        self.process.send("Back")
        self.assertEqual((host.sent[-1].to, host.sent[-1].value), (OTHER_PID, "Thanks"))
        self.process.send("Tell", text="it")
        self.assertEqual((host.sent[-1].to, host.sent[-1].value), (OWN_PID, "Back"))
        self.assertEqual(self.process.send("End"), RunResult.DONE)

    def test_requests_of_http_are_answered(self):
        def asked(method, body):
            head = codec.pack({"method": method, "path": "/", "headers": [["host", b"here"]]})
            self.process.deliver(Delivery(Kind.REQUEST, tag=Tag.HTTP_REQUEST, reference=8, payload=head + body))
            return host.replies[-1]

        head, used = codec.unpack_front(asked("GET", b"").payload)
        self.assertEqual((head["status"], host.replies[-1].payload[used:]), (200, b"here"))
        head, used = codec.unpack_front(asked("POST", b"[1]").payload)
        self.assertEqual((head["status"], host.replies[-1].payload[used:]), (201, b"[1]"))
        self.assertEqual(head["headers"], [["content-type", "application/json"]])
        self.assertEqual(asked("POST", b"{").tag, Tag.REFUSED)
        for garbage in (b"", b"\xc1", codec.pack({"headers": [[1, 2]]}), codec.pack([])):
            self.process.deliver(Delivery(Kind.REQUEST, tag=Tag.HTTP_REQUEST, reference=8, payload=garbage))
            self.assertEqual(host.replies[-1].tag, Tag.REFUSED)

    def test_state_is_saved_and_loaded(self):
        self.process.send({"Set": 5})
        self.assertEqual(self.process.save(), {"count": 5, "items": []})
        self.assertIsNone(self.process.load(1, {"total": 9}))
        self.assertEqual(self.process.request("Get"), 9)
        self.assertEqual(self.process.load(3, {}), "the schema 3 is unknown")

    def test_an_error_that_nobody_catches_names_its_lines(self):
        text = ""
        try:
            self.process.send("Crash")
        except KeyError as error:
            text = traces.describe(error)
        self.assertRegex(text, r"^KeyError: 'crash'\n")
        self.assertRegex(text, r"many\.py:\d+, in crash")

    def test_the_protocol_lists_what_it_takes(self):
        lines = running.protocol().splitlines()
        self.assertIn(
            '{"name": "add", "message": "Add", "parameters": [{"name": "by", "type": "int"}, '
            '{"name": "times", "type": "Option<int>"}], "docs": "Counts on."}',
            lines,
        )
        self.assertIn('{"name": "get", "message": "Get", "parameters": [], "reply": "int"}', lines)

    def test_the_warm_up_leaves_nothing_behind(self):
        before = (host.sent[:], host.replies[:], host.logged[:])
        running.warm_up()
        self.assertEqual((host.sent, host.replies, host.logged), before)
        self.assertIsNone(self.process.state)
        self.assertEqual(running.schema(), 2)
        self.assertEqual(host.receive(0, 0, 0), Code.EMPTY)


if __name__ == "__main__":
    unittest.main()
