/** The component's side of XEP-0114, against a server made of a socket: handshake, custody, bounces, reconnecting. */
import { createHash } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createBroker } from '../../../broker/broker.ts';
import { createMessage } from '../../../broker/message.ts';
import type { Broker, Channel } from '../../../broker/port.ts';
import { openXmppDoor, type XmppDoor } from '../../../gateways/xmpp/gateway.ts';
import { eventually } from '../../support/eventually.ts';
import { RawClient } from './scene.ts';

let server: Server;
let sockets: Socket[];
let broker: Broker;
let door: XmppDoor | undefined;

let channel: Channel;
let port: number;

beforeEach(async () => {
  sockets = [];
  server = createServer((socket) => sockets.push(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  port = typeof address === 'object' && address !== null ? address.port : 0;
  broker = await createBroker();
  channel = (await broker.connect()).openChannel();
  await channel.declareExchange({ exchange: 'logs', type: 'fanout' });
  await openDoor('broker.example');
});

async function closeDoor(): Promise<void> {
  // Not before its connection is known, or it would be taken for one of the next door's.
  await eventually(() => expect(sockets).not.toEqual([]));
  await door?.close();
  for (const socket of sockets.splice(0)) socket.destroy();
}

async function openDoor(...domains: readonly string[]): Promise<void> {
  door = await openXmppDoor(broker, {
    components: domains.map((domain) => ({ domain, vhost: '/', host: '127.0.0.1', port, secret: 'shh' })),
    componentUser: 'guest',
  });
}

afterEach(async () => {
  await broker.close();
  await door?.close();
  door = undefined;
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
});

/** The `index`-th connection, after the handshake. */
async function linked(index = 0): Promise<RawClient> {
  return (await linkedAs(index)).link;
}

async function linkedAs(index: number): Promise<{ link: RawClient; domain: string }> {
  const socket = await eventually(() => {
    const found = sockets[index];
    if (found === undefined) throw new Error('no connection yet');
    return found;
  });
  const link = new RawClient(socket);
  const header = await link.until(/<stream:stream xmlns="jabber:component:accept"[^>]*>/);
  const domain = /to="([^"]*)"/.exec(header)?.[1] ?? '';
  link.say(
    "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' id='s1' from='broker.example'>",
  );
  await link.until(`<handshake>${createHash('sha1').update('s1shh').digest('hex')}</handshake>`);
  link.say('<handshake/>');
  return { link, domain };
}

async function follow(link: RawClient, user = 'romeo@montague.net', contact = 'logs@broker.example'): Promise<void> {
  const stanza = (type: string): string => `<presence type='${type}' from='${user}' to='${contact}'/>`;
  link.say(stanza('subscribe'));
  await link.until(`<presence type="subscribe" from="${contact}" to="${user}"/>`);
  link.say(`${stanza('subscribed')}<presence from='${user}/desk' to='${contact}'/>`);
  await link.until('<presence type="subscribed"');
}

/** Waits until all that was said has been taken care of. */
async function settled(link: RawClient): Promise<void> {
  link.say("<iq type='get' id='settled' from='a@b/c' to='broker.example'><ping xmlns='urn:xmpp:ping'/></iq>");
  await link.until('id="settled"');
}

async function publish(...bodies: readonly string[]): Promise<void> {
  const connection = await broker.connect();
  for (const body of bodies) connection.openChannel().publish(createMessage({ exchange: 'logs', body }));
  await connection.close();
}

async function counts(queue = 'romeo@montague.net'): Promise<[number | undefined, number | undefined]> {
  const view = (await broker.snapshot('/')).queues.find(({ name }) => name === queue);
  return [view?.messagesReady, view?.messagesUnacked];
}

/** The id of the next question to somebody's client. */
async function question(link: RawClient, to = 'romeo@montague.net/desk'): Promise<string> {
  const heard = await link.until(new RegExp(`<iq type="get" id="echo-[\\w-]+" [^>]*to="${to}"[^>]*>.*?</iq>`, 's'));
  return /id="(echo-[\w-]+)"[^>]*><ping[^>]*\/><\/iq>$/.exec(heard)?.[1] ?? '';
}

/** The client answers the next question. */
async function answer(link: RawClient, from = 'romeo@montague.net/desk'): Promise<void> {
  const id = await question(link, from);
  link.say(`<iq type='result' id='${id}' from='${from}' to='logs@broker.example'/>`);
}

it('acks what the client has taken, and not before', async () => {
  const link = await linked();
  await follow(link);
  await publish('one', 'two');
  await link.until('<body>two<');
  await eventually(async () => expect(await counts()).toEqual([0, 2]));
  await answer(link);
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
  await answer(again);
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

it('takes the word of nobody but the receiver, whatever he says', async () => {
  const link = await linked();
  await follow(link);
  await publish('one');
  const id = await question(link);
  const said = [
    `type='result' id='${id}' from='mallory@else.example/x'`,
    `type='result' id='${id}' from='romeo@montague.net/phone'`,
    `type='result' id='${id}' from='broker.example'`,
    `type='get' id='${id}' from='broker.example'`,
    "type='result' id='echo-guessed' from='romeo@montague.net/desk'",
  ];
  for (const attributes of said) link.say(`<iq ${attributes} to='broker.example'/>`);
  await settled(link);
  expect(await counts()).toEqual([0, 1]);
  // It is no matter that he does not understand the question.
  link.say(
    `<iq type='error' id='${id}' from='romeo@montague.net/desk' to='logs@broker.example'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>`,
  );
  await eventually(async () => expect(await counts()).toEqual([0, 0]));
});

it('keeps what its receiver has not answered for when he is gone, however much his server has taken', async () => {
  const link = await linked();
  await follow(link);
  await publish('one', 'two');
  await answer(link);
  await eventually(async () => expect(await counts()).toEqual([0, 0]));
  await publish('three', 'four');
  await question(link);
  link.say("<presence type='unavailable' from='romeo@montague.net/desk' to='logs@broker.example'/>");
  await eventually(async () => expect(await counts()).toEqual([2, 0]));
  link.say("<presence from='romeo@montague.net/phone' to='logs@broker.example'/>");
  await link.until(/to="romeo@montague.net\/phone"[^>]*>.*<body>three<.*redelivered="true".*<body>four</s);
  await answer(link, 'romeo@montague.net/phone');
  await eventually(async () => expect(await counts()).toEqual([0, 0]));
});

it('keeps what was sent to somebody who cannot be reached, and tries no more until he is heard of', async () => {
  const link = await linked();
  await follow(link);
  await publish('one');
  const id = await question(link);
  link.say(
    `<iq type='error' id='${id}' from='romeo@montague.net/desk' to='logs@broker.example'><error type='wait'><remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>`,
  );
  await eventually(async () => expect(await counts()).toEqual([1, 0]));
  await settled(link);
  expect(await counts()).toEqual([1, 0]);
  link.say("<presence from='romeo@montague.net/desk' to='logs@broker.example'/>");
  await link.until('<body>one<');
});

it('believes no server that speaks for our own users and exchanges', async () => {
  const link = await linked();
  await channel.declareQueue({ queue: 'all' });
  await channel.bind({ source: 'logs', destination: 'all', destinationKind: 'queue', bindingKey: '' });
  for (const from of ['guest@localhost/x', 'logs@broker.localhost/x']) {
    link.say(`<message from='${from}' to='logs@broker.example' id='m'><body>I am guest</body></message>`);
    expect(await link.until('</message>')).toMatch(/type="error".*<not-allowed .*Warren's own/);
  }
  link.say("<presence type='subscribe' from='guest@localhost' to='logs@broker.example'/>");
  expect(await link.until('</presence>')).toContain('<not-allowed ');
  await settled(link);
  expect(await counts('all')).toEqual([0, 0]);
});

it('keeps the users of one server when the link to another is lost', async () => {
  await closeDoor();
  await openDoor('one.example', 'two.example');
  const links = [await linkedAs(0), await linkedAs(1)];
  const [one, two] = ['one.example', 'two.example'].map((name) => links.find(({ domain }) => domain === name)?.link);
  if (one === undefined || two === undefined) throw new Error('not two links');
  await follow(one, 'u@one.net', 'logs@one.example');
  await follow(two, 'u@two.net', 'logs@two.example');
  one.socket.destroy();
  await linkedAs(2);
  await publish('still there?');
  await two.until('<message from="logs@two.example" to="u@two.net/desk"');
  expect(await counts('u@one.net')).toEqual([1, 0]);
});

it('survives whatever other doors have bound to the queue of a user', async () => {
  const queue = 'juliet@capulet.com';
  await channel.declareQueue({ queue });
  const addresses = [
    '\\ff+\\fe@broker.example',
    'logs+\\fe@broker.example',
    'queue+\\ff@broker.example',
    'no address@',
  ];
  for (const [index, address] of [...addresses, 'logs@broker.example/\u0007', ''].entries()) {
    const binding = { source: 'logs', destination: queue, destinationKind: 'queue', bindingKey: `${index}` } as const;
    await channel.bind({ ...binding, arguments: { 'x-jid': address } });
  }
  const long = 'Ä'.repeat(127);
  await channel.declareExchange({ exchange: long, type: 'fanout' });
  await channel.bind({ source: long, destination: queue, destinationKind: 'queue', bindingKey: long });
  await closeDoor();
  await openDoor('broker.example');
  const link = await linked();
  link.say(`<presence from='${queue}/x' to='logs@broker.example'/>`);
  await publish('one');
  await link.until('<body>one<');
});

it('asks somebody of another server with the key where his server keeps it', async () => {
  const link = await linked();
  link.say("<message from='a@b/c' to='broker.example'><body>bind logs romeo@montague.net app.#</body></message>");
  await link.until('<presence type="subscribe" from="logs+app.#@broker.example" to="romeo@montague.net"/>');
});

it('says nothing that is larger than other servers take, whatever makes it large', async () => {
  const link = await linked();
  await follow(link);
  const large = { headers: { large: 'x'.repeat(600_000) } };
  channel.publish(createMessage({ exchange: 'logs', body: 'one', properties: large }));
  channel.publish(createMessage({ exchange: 'logs', body: '語'.repeat(100_000) }));
  await publish('end');
  const heard = await link.until('<body>end<');
  expect(heard.match(/has been dropped here/g)).toHaveLength(2);
  expect(Buffer.byteLength(heard)).toBeLessThan(10_000);
});

it('opens without its virtual host, and serves it when it is there; also when it comes again', async () => {
  await closeDoor();
  door = await openXmppDoor(broker, {
    components: [{ domain: 'broker.example', vhost: '/late', host: '127.0.0.1', port, secret: 'shh' }],
    componentUser: 'guest',
  });
  const link = await linked();
  const romeo = "from='romeo@montague.net'";
  link.say(`<presence type='subscribe' ${romeo} to='amq.topic@broker.example'/>`);
  await link.until('<item-not-found ');
  const right = { vhost: '/late', user: 'guest', configure: '.*', write: '.*', read: '.*' };
  for (let times = 0; times < 2; times += 1) {
    await broker.administration.putVhost({ name: '/late' });
    await broker.administration.setPermission(right);
    await follow(link, 'romeo@montague.net', 'amq.topic@broker.example');
    await broker.administration.deleteVhost('/late');
    await link.until('<presence type="unsubscribe" from="amq.topic@broker.example" to="romeo@montague.net"/>');
  }
});

it.each([
  ['no XML', '<message></presence>', 'not-well-formed'],
  ['a comment', '<!-- -->', 'restricted-xml'],
  ['a DOCTYPE', '<!DOCTYPE x>', 'restricted-xml'],
  ['entities of its own', "<message to='logs@broker.example'><body>&lol;</body></message>", 'restricted-xml'],
  ['elements in elements', '<a>'.repeat(100), 'policy-violation'],
  ['a stanza that never ends', `<message><body>${'x'.repeat(1_100_000)}`, 'policy-violation'],
])('a server that says %s is told so and left, and nothing is lost', async (_what, text, condition) => {
  const link = await linked();
  await follow(link);
  await publish('one');
  await link.until('<body>one<');
  link.say(text);
  expect(await link.ended()).toMatch(new RegExp(`<stream:error><${condition} .*</stream:error></stream:stream>$`));
  await eventually(async () => expect(await counts()).toEqual([1, 0]));
  const again = await linked(1);
  again.say("<presence from='romeo@montague.net/desk' to='logs@broker.example'/>");
  await again.until('<body>one<');
});
