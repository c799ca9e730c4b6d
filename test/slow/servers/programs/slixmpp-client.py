"""slixmpp: disco, ad-hoc commands with forms, publish-subscribe, contacts. 
argv: port, scenario, address, password and, for TLS, the file of the authority that has signed the certificate.
"""

import asyncio
import sys

import slixmpp
from slixmpp.exceptions import IqError

PORT, SCENARIO, ADDRESS, PASSWORD = int(sys.argv[1]), *sys.argv[2:5]
AUTHORITY = (sys.argv[5:] or [None])[0]
DOMAIN = "broker.localhost"


class Client(slixmpp.ClientXMPP):
    def __init__(self):
        super().__init__(f"{ADDRESS}/slix", PASSWORD)
        for plugin in ("xep_0004", "xep_0030", "xep_0050", "xep_0060", "xep_0092", "xep_0198", "xep_0199", "xep_0203"):
            self.register_plugin(plugin)
        self.ca_certs = AUTHORITY
        # There may be no certificate on this port.
        self["feature_mechanisms"].unencrypted_plain = True
        self["feature_mechanisms"].unencrypted_scram = True
        self.add_event_handler("session_start", self.on_start)
        self.add_event_handler("failed_auth", lambda _: self.finish("login failed"))
        self.bodies = asyncio.Queue()
        self.add_event_handler("message", lambda message: self.bodies.put_nowait(message["body"]))
        self.outcome = asyncio.get_event_loop().create_future()

    def finish(self, outcome):
        if not self.outcome.done():
            self.outcome.set_result(outcome)

    async def on_start(self, _event):
        try:
            self.send_presence()
            await self.get_roster()
            await globals()[SCENARIO](self)
            self.finish("done")
        except Exception as error:  # pylint: disable=broad-except
            self.finish(f"failed: {error!r}")


async def disco(client):
    info = await client["xep_0030"].get_info(jid=DOMAIN, cached=False)
    identities = {(category, kind) for category, kind, _lang, _name in info["disco_info"]["identities"]}
    assert {("component", "router"), ("client", "bot"), ("gateway", "amqp")} <= identities, identities
    items = await client["xep_0030"].get_items(jid=DOMAIN)
    addresses = {item[0] for item in items["disco_items"]["items"]}
    assert f"amq.topic@{DOMAIN}" in addresses, addresses
    exchange = await client["xep_0030"].get_info(jid=f"amq.topic@{DOMAIN}", cached=False)
    assert "amqp-exchange-topic" in exchange["disco_info"]["features"]
    version = await client["xep_0092"].get_version(DOMAIN)
    assert version["software_version"]["name"] == "Warren"
    await client["xep_0199"].ping(jid=DOMAIN, timeout=5)


async def commands(client):
    adhoc = client["xep_0050"]
    listed = await adhoc.get_commands(jid=DOMAIN)
    nodes = [item[1] for item in listed["disco_items"]["items"]]
    assert sorted(nodes) == ["bind", "exchange.declare", "exchange.delete", "list", "unbind"], nodes

    async def run(node, **values):
        first = await adhoc.send_command(DOMAIN, node, flow=False)
        if first["command"]["status"] == "completed":
            return first["command"]["notes"][0][1]
        form = first["command"]["form"]
        answer = client["xep_0004"].make_form(ftype="submit")
        for name in form.get_fields():
            if name in values:
                answer.add_field(var=name, value=values[name])
        second = await adhoc.send_command(
            DOMAIN, node, action="complete", payload=answer, sessionid=first["command"]["sessionid"]
        )
        assert second["command"]["status"] == "completed", second
        return second["command"]["notes"][0][1]

    assert f"from-slix@{DOMAIN}" in await run("exchange.declare", exchange="from-slix", type="topic")
    assert "from-slix (topic, durable)" in await run("list")
    assert "nobody" in await run("list", exchange="from-slix")
    assert "deleted" in await run("exchange.delete", exchange="from-slix")
    try:
        await run("exchange.delete", exchange="from-slix")
        raise AssertionError("deleted twice")
    except IqError as error:
        assert error.condition == "item-not-found", error.condition


async def pubsub(client):
    service = client["xep_0060"]
    events = asyncio.Queue()
    for kind in ("publish", "delete"):
        client.add_event_handler(f"pubsub_{kind}", events.put_nowait)
    info = await client["xep_0030"].get_info(jid=DOMAIN, cached=False)
    assert ("pubsub", "service", None, None) in info["disco_info"]["identities"], info
    await service.create_node(DOMAIN, "slix-node")
    nodes = await service.get_nodes(DOMAIN)
    assert (DOMAIN, "slix-node", "slix-node") in nodes["disco_items"]["items"], nodes
    subscribed = await service.subscribe(DOMAIN, "slix-node", bare=True)
    assert subscribed["pubsub"]["subscription"]["subscription"] == "subscribed", subscribed
    listed = await service.get_subscriptions(DOMAIN)
    assert [one["node"] for one in listed["pubsub"]["subscriptions"]] == ["slix-node"], listed
    owned = await service.get_affiliations(DOMAIN, "slix-node")
    assert [one["affiliation"] for one in owned["pubsub"]["affiliations"]] == ["owner"], owned
    payload = slixmpp.xmlstream.ET.Element("{urn:test}entry")
    published = await service.publish(DOMAIN, "slix-node", id="one", payload=payload)
    assert published["pubsub"]["publish"]["item"]["id"] == "one", published
    event = await asyncio.wait_for(events.get(), 10)
    items = event["pubsub_event"]["items"]
    assert event["from"] == DOMAIN and items["node"] == "slix-node", event
    assert items["item"]["id"] == "one" and items["item"]["payload"].tag == "{urn:test}entry", event
    # A chat to the exchange is an item, too.
    client.send_message(mto=f"slix-node@{DOMAIN}", mbody="plain", mtype="chat")
    event = await asyncio.wait_for(events.get(), 10)
    assert event["pubsub_event"]["items"]["item"]["payload"].tag == "{urn:warren:amqp:0}amqp", event
    assert event["body"] == "plain", event
    try:
        await service.get_items(DOMAIN, "slix-node")
        raise AssertionError("items where none are kept")
    except IqError as error:
        assert error.condition == "feature-not-implemented", error.condition
        assert error.iq["error"]["pubsub"]["unsupported"] == "retrieve-items", error.iq
    await service.delete_node(DOMAIN, "slix-node")
    event = await asyncio.wait_for(events.get(), 10)
    assert event["pubsub_event"]["delete"]["node"] == "slix-node", event
    assert not [one for one in (await service.get_subscriptions(DOMAIN))["pubsub"]["subscriptions"]]


async def contact(client):
    granted = asyncio.get_event_loop().create_future()
    client.add_event_handler("presence_subscribed", lambda _: granted.done() or granted.set_result(None))
    client.send_presence(pto=f"amq.topic@{DOMAIN}/slix.#", ptype="subscribe")
    await asyncio.wait_for(granted, 10)
    client.send_message(mto=f"amq.topic@{DOMAIN}/slix.hello", mbody="hello, me", mtype="chat")
    assert await asyncio.wait_for(client.bodies.get(), 10) == "hello, me"
    gone = asyncio.get_event_loop().create_future()
    client.add_event_handler("presence_unsubscribe", lambda _: gone.done() or gone.set_result(None))
    client.send_presence(pto=f"amq.topic@{DOMAIN}/slix.#", ptype="unsubscribe")
    await asyncio.wait_for(gone, 10)


async def channel_binding(client):
    mechanism = client["feature_mechanisms"].mech
    assert mechanism.name == "SCRAM-SHA-256-PLUS", mechanism.name
    version = client.socket.version()
    assert version == "TLSv1.3", version
    await client["xep_0199"].ping(jid=DOMAIN, timeout=5)


async def main():
    client = Client()
    client.connect(("127.0.0.1", PORT), force_starttls=AUTHORITY is not None, disable_starttls=AUTHORITY is None)
    print(await asyncio.wait_for(client.outcome, 40))
    await client.disconnect()


asyncio.get_event_loop().run_until_complete(main())
