/** The component's side of XEP-0114, against a server made of a socket: handshake, custody, bounces, reconnecting. */
import { createHash } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createBroker } from '../../../broker/broker.ts';
import { createMessage } from '../../../broker/message.ts';
import type { Broker } from '../../../broker/port.ts';
import { openXmppDoor, type XmppDoor } from '../../../gateways/xmpp/gateway.ts';
import { eventually } from '../../support/eventually.ts';
import { RawClient } from './scene.ts';

let server: Server;
let sockets: Socket[];
let broker: Broker;
let door: XmppDoor;

beforeEach(async () => {
  sockets = [];
  server = createServer((socket) => sockets.push(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  broker = await createBroker();
  const channel = (await broker.connect()).openChannel();
  await channel.declareExchange({ exchange: 'logs', type: 'fanout' });
  door = await openXmppDoor(broker, {
    components: [{ domain: 'broker.example', vhost: '/', host: '127.0.0.1', port, secret: 'shh' }],
    componentUser: 'guest',
  });
});

afterEach(async () => {
  await broker.close();
  await door.close();
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
});

/** The `index`-th connection, after the handshake. */
async function linked(index = 0): Promise<RawClient> {
  const socket = await eventually(() => {
    const found = sockets[index];
    if (found === undefined) throw new Error('no connection yet');
    return found;
  });
  const link = new RawClient(socket);
  await link.until('<stream:stream xmlns="jabber:component:accept"');
  link.say(
    "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' id='s1' from='broker.example'>",
  );
  await link.until(`<handshake>${createHash('sha1').update('s1shh').digest('hex')}</handshake>`);
  link.say('<handshake/>');
  return link;
}

async function follow(link: RawClient): Promise<void> {
  const stanza = (type: string): string =>
    `<presence type='${type}' from='romeo@montague.net' to='logs@broker.example'/>`;
  link.say(stanza('subscribe'));
  await link.until('<presence type="subscribe" from="logs@broker.example" to="romeo@montague.net"/>');
  link.say(`${stanza('subscribed')}<presence from='romeo@montague.net/desk' to='logs@broker.example'/>`);
  await link.until('<presence type="subscribed"');
}

async function publish(...bodies: readonly string[]): Promise<void> {
  const connection = await broker.connect();
  for (const body of bodies) connection.openChannel().publish(createMessage({ exchange: 'logs', body }));
  await connection.close();
}

async function counts(): Promise<[number | undefined, number | undefined]> {
  const view = (await broker.snapshot('/')).queues.find(({ name }) => name === 'romeo@montague.net');
  return [view?.messagesReady, view?.messagesUnacked];
}

/** Carries the last ping from the domain to itself back. */
async function echo(link: RawClient): Promise<void> {
  const heard = await link.until(/<iq type="get" id="(echo-\d+)"[^>]*>.*?<\/iq>/);
  const id = /id="(echo-\d+)"[^>]*>[^<]*<ping[^>]*\/><\/iq>$/.exec(heard)?.[1];
  link.say(`<iq type='get' id='${id}' from='broker.example' to='broker.example'><ping xmlns='urn:xmpp:ping'/></iq>`);
}

it('acks what the server has handled, and not before', async () => {
  const link = await linked();
  await follow(link);
  await publish('one', 'two');
  await link.until('<body>two<');
  await eventually(async () => expect(await counts()).toEqual([0, 2]));
  await echo(link);
  await eventually(async () => expect(await counts()).toEqual([0, 0]));
});

it('takes back what a lost link may have lost, connects again, asks who is there, and goes on', async () => {
  const link = await linked();
  await follow(link);
  await publish('one', 'two');
  await link.until('<body>two<');
  link.socket.destroy();
  await eventually(async () => expect(await counts()).toEqual([2, 0]));
  const again = await linked(1);
  await again.until('<presence type="probe" from="logs@broker.example" to="romeo@montague.net"/>');
  await publish('three');
  again.say("<presence from='romeo@montague.net/desk' to='logs@broker.example'/>");
  await again.until(/<body>one<.*redelivered="true".*<body>two<.*<body>three</s);
  await echo(again);
  await eventually(async () => expect(await counts()).toEqual([0, 0]));
});

it('keeps what comes back as undeliverable, until its receiver is there again', async () => {
  const link = await linked();
  await follow(link);
  await publish('one');
  const heard = await link.until(/<message[^>]*>.*<body>one<.*?<\/message>/s);
  const id = /<message[^>]*\bid="([^"]*)"/.exec(heard)?.[1];
  link.say(
    `<message type='error' id='${id}' from='romeo@montague.net/desk' to='logs@broker.example'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>`,
  );
  await eventually(async () => expect(await counts()).toEqual([1, 0]));
  link.say("<presence from='romeo@montague.net/phone' to='logs@broker.example'/>");
  await link.until(/<message[^>]*to="romeo@montague.net\/phone"[^>]*>.*<body>one</s);
});

it('goes on with what it shows after one contact of two was taken off the list', async () => {
  const link = await linked();
  await follow(link);
  const other = "from='romeo@montague.net' to='amq.fanout@broker.example'";
  link.say(
    `<presence type='subscribe' ${other}/><presence type='subscribed' ${other}/><presence from='romeo@montague.net/desk' to='amq.fanout@broker.example'/>`,
  );
  await link.until('<presence type="subscribed" from="amq.fanout@broker.example"');
  link.say(
    `<presence type='unsubscribe' ${other}/><presence type='unavailable' from='romeo@montague.net/desk' to='amq.fanout@broker.example'/>`,
  );
  await link.until('<presence type="unsubscribe" from="amq.fanout@broker.example"');
  await publish('still here');
  await link.until('<body>still here<');
});

it('answers for nobody but its own domain, and publishes nothing while memory is short', async () => {
  const link = await linked();
  link.say("<message from='romeo@montague.net/desk' to='logs@elsewhere.example' id='m'><body>x</body></message>");
  await broker.administration.setAlarm('memory', true);
  link.say("<message from='romeo@montague.net/desk' to='logs@broker.example' id='m2'><body>x</body></message>");
  expect(await link.until('</message>')).toMatch(/id="m2".*<resource-constraint/);
  await broker.administration.setAlarm('memory', false);
  link.say("<message from='romeo@montague.net/desk' to='nothing@broker.example' id='m3'><body>x</body></message>");
  expect(await link.until('</message>')).toMatch(/id="m3".*<item-not-found/);
});

it('is refused with a wrong secret, and tries again', async () => {
  const socket = await eventually(() => {
    if (sockets[0] === undefined) throw new Error('no connection yet');
    return sockets[0];
  });
  socket.write(
    "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' id='s0'><stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>",
  );
  const link = await linked(1);
  await follow(link);
});
