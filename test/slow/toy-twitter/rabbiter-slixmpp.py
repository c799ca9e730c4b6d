"""Somebody with slixmpp who adds Rabbiter, follows anna, hears her, and says something. argv: port, passcode."""

import asyncio
import sys

import slixmpp

PORT, PASSCODE = int(sys.argv[1]), sys.argv[2]
BOT = "rabbiter@broker.localhost"


class Client(slixmpp.ClientXMPP):
    def __init__(self):
        super().__init__("slix@localhost/desk", PASSCODE)
        for plugin in ("xep_0030", "xep_0198", "xep_0199", "xep_0203"):
            self.register_plugin(plugin)
        # There is no certificate on this port.
        self["feature_mechanisms"].unencrypted_plain = True
        self["feature_mechanisms"].unencrypted_scram = True
        self.bodies = asyncio.Queue()
        self.add_event_handler("message", lambda message: self.bodies.put_nowait(message["body"]))
        self.add_event_handler("session_start", self.on_start)
        self.add_event_handler("failed_auth", lambda _: self.finish("login failed"))
        self.outcome = asyncio.get_event_loop().create_future()

    def finish(self, outcome):
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    async def hears(self, expected):
        body = await asyncio.wait_for(self.bodies.get(), 20)
        assert body.startswith(expected), body

    def say(self, text):
        self.send_message(mto=BOT, mbody=text, mtype="chat")

    async def on_start(self, _event):
        try:
            self.send_presence()
            await self.get_roster()
            self.send_presence_subscription(pto=BOT)
            await self.hears("Hello, slix@localhost.")
            info = await self["xep_0030"].get_info(jid=BOT, cached=False)
            assert ("client", "bot", None, "Rabbiter") in info["disco_info"]["identities"], info
            self.say("*follow anna")
            await self.hears("You are now following anna@localhost.")
            print("following", flush=True)
            await self.hears("from anna@localhost: Good <b>morning</b>, Python")
            self.say("hello from slixmpp")
            self.say("*following")
            await self.hears("You are following anna@localhost.")
            self.finish("done")
        except Exception as error:  # pylint: disable=broad-except
            self.finish(f"failed: {error!r}")


async def main():
    client = Client()
    client.connect(("127.0.0.1", PORT), force_starttls=False, disable_starttls=True)
    print(await asyncio.wait_for(client.outcome, 60), flush=True)
    client.disconnect()


asyncio.get_event_loop().run_until_complete(main())
