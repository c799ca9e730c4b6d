/** While the broker is behind with writing, or short of memory, publishes wait; acknowledgements and pings do not. */
import { createHash } from 'node:crypto';
import { createServer, type Server, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { BEHIND_BYTES } from '../../../broker/storage/log-store.ts';
import { IN_HAND_LIMITS } from '../../../gateways/xmpp/client-stream.ts';
import { element } from '../../../gateways/xmpp/element.ts';
import { InHand } from '../../../gateways/xmpp/in-hand.ts';
import { CLIENT } from '../../../gateways/xmpp/namespaces.ts';
import { PublishGate, WAITING_MAX_FOR_SERVERS, WAITING_WEIGHT_MAX } from '../../../gateways/xmpp/publish-gate.ts';
import { eventually } from '../../support/eventually.ts';
import { brokerOn } from '../../support/faulty-disk-broker.ts';
import { FaultyFiles } from '../../support/faulty-files.ts';
import { messagesOf, RawClient, useXmpp, xml, xmppClient } from './scene.ts';

const SM = "xmlns='urn:xmpp:sm:3'";
/** What is not written to disk: its confirm waits for nothing but the gate. */
const TRANSIENT = "<amqp xmlns='urn:warren:amqp:0' delivery-mode='1'/>";

function message(body: string, to = 'x@broker.localhost', from = ''): string {
  return `<message to='${to}'${from === '' ? '' : ` from='${from}'`} id='${body}'><body>${body}</body>${TRANSIENT}</message>`;
}

describe('while the disk takes nothing', () => {
  const files = new FaultyFiles();
  let server: Server;
  let port = 0;
  const sockets: Socket[] = [];
  beforeAll(async () => {
    server = createServer((socket) => sockets.push(socket));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    port = typeof address === 'object' && address !== null ? address.port : 0;
  });
  const scene = useXmpp({
    broker: async () => {
      return brokerOn(files);
    },
    xmpp: () => ({
      components: [{ domain: 'broker.example', vhost: '/', host: '127.0.0.1', port, secret: 'shh' }],
      componentUser: 'guest',
      resumeMs: 60_000,
    }),
  });
  afterAll(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });

  let letGo = (): void => {};
  beforeEach(async () => {
    await scene.channel.declareExchange({ exchange: 'x', type: 'fanout' });
    await scene.channel.declareQueue({ queue: 'all' });
    await scene.channel.declareQueue({ queue: 'full', durable: true });
    await scene.channel.bind({ source: 'x', destination: 'all', destinationKind: 'queue', bindingKey: '' });
  });
  afterEach(async () => {
    letGo();
    await scene.channel.purgeQueue('full');
    await scene.channel.deleteExchange('x');
    await scene.channel.deleteQueue('all');
  });

  /** Everybody who has a connection to the broker is told to hold back. */
  async function hold(): Promise<void> {
    letGo = files.hold({ call: 'sync' });
    const body = new Uint8Array(4 * 1024 * 1024);
    for (let bytes = 0; bytes <= BEHIND_BYTES; bytes += body.length) {
      scene.channel.publish(createMessage({ routingKey: 'full', body, properties: { deliveryMode: 2 } }));
      await new Promise((resolve) => setImmediate(resolve));
    }
    await eventually(() => expect(scene.door.gate.isOpen).toBe(false));
  }

  async function published(): Promise<string[]> {
    const bodies: string[] = [];
    for (;;) {
      const got = await scene.channel.get('all', { noAck: true });
      if (got === undefined) return bodies;
      bodies.push(new TextDecoder().decode(got.message.body));
    }
  }

  it('a client is not let publish, and goes on to acknowledge, to ask, and to be told how far it has come', async () => {
    const raw = await scene.login('desk');
    raw.say(`<enable ${SM} resume='true'/><presence/><presence type='subscribe' to='x@broker.localhost'/>`);
    await raw.until('type="subscribed"');
    raw.say(`<r ${SM}/>`);
    const h = Number(/h="(\d+)"/.exec(await raw.until(/<a [^>]*>/))?.[1]);
    await hold();
    raw.say(message('one'));
    raw.say(
      `<iq type='set' id='p' to='broker.localhost'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='x'><item id='two'>${TRANSIENT.replace('/>', '><body>two</body></amqp>')}</item></publish></pubsub></iq>`,
    );
    raw.say(
      "<message to='guest@localhost/desk' type='chat' id='typing'><active xmlns='http://jabber.org/protocol/chatstates'/></message>",
    );
    await raw.until('<active ');
    await raw.settled();
    raw.say(`<r ${SM}/>`);
    expect(await raw.until(/<a [^>]*>/)).toContain(`h="${h}"`);
    // What another door published is delivered, and acknowledged.
    scene.publish('x', '', 'from AMQP');
    await raw.until('<body>from AMQP<');
    raw.say(`<a ${SM} h='${raw.managedCount}'/>`);
    await eventually(async () => {
      const view = (await scene.broker.snapshot('/')).queues.find(({ name }) => name === 'guest@localhost');
      expect(view?.messagesUnacked).toBe(0);
    });
    expect(await published()).toEqual(['from AMQP']);
    letGo();
    await raw.until('id="p"');
    await raw.settled();
    expect(await published()).toEqual(['one', 'two']);
    raw.say(`<r ${SM}/>`);
    await raw.until(`h="${h + 5}"`);
  });

  it('a WebSocket client is held the same', async () => {
    const client = xmppClient({
      service: scene.webSocketUrl,
      domain: 'localhost',
      username: 'anna',
      password: 'secret',
    });
    client.on('error', () => {});
    const messages = messagesOf(client);
    await client.start();
    // It counts wrongly what comes together with the answer to its <enable/>.
    await eventually(() => expect(client.streamManagement.enabled).toBe(true));
    await client.send(xml('presence'));
    await client.send(xml('message', { to: 'anna@localhost', type: 'chat' }, xml('body', {}, 'I am here')));
    await eventually(() => expect(messages).toHaveLength(1));
    await hold();
    const amqp = xml('amqp', { xmlns: 'urn:warren:amqp:0', 'delivery-mode': '1' });
    await client.send(xml('message', { to: 'x@broker.localhost' }, xml('body', {}, 'one'), amqp));
    await client.iqCaller.request(
      xml('iq', { type: 'get', to: 'broker.localhost' }, xml('ping', { xmlns: 'urn:xmpp:ping' })),
    );
    expect(await published()).toEqual([]);
    letGo();
    await eventually(async () => expect(await published()).toEqual(['one']));
    client.reconnect.stop();
    await client.stop();
  });

  it('one that says more and more is not read any more, loses nothing, and keeps its order', async () => {
    const raw = await scene.login('desk');
    raw.say('<presence/>');
    await raw.until('<presence');
    await hold();
    const bodies = Array.from({ length: IN_HAND_LIMITS.count * 3 }, (_, index) => `n${index}`);
    for (const body of bodies) raw.say(message(body));
    raw.say("<iq type='get' id='late' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>");
    const came: string[] = [];
    const other = await scene.login('other', 'anna');
    await other.settled();
    expect(raw.heard).not.toContain('late');
    expect(await published()).toEqual([]);
    letGo();
    await raw.until('id="late"');
    await eventually(async () => {
      came.push(...(await published()));
      expect(came).toEqual(bodies);
    });
  });

  it('one that resumes is told how far it has come, and what it had said is published', async () => {
    const raw = await scene.login('desk');
    raw.say(`<enable ${SM} resume='true'/>`);
    const id = /id="([^"]*)"/.exec(await raw.until(/<enabled[^>]*\/>/))?.[1];
    raw.say('<presence/>');
    await raw.until('<presence');
    await hold();
    raw.say(message('one'));
    await raw.settled();
    raw.socket.destroy();
    const back = await scene.raw();
    await back.login('guest', 'guest');
    back.say(`<resume ${SM} previd='${id}' h='1'/>`);
    await back.until(`<resumed xmlns="urn:xmpp:sm:3" previd="${id}" h="3"/>`);
    expect(await published()).toEqual(['one']);
  });

  it('the users of another server wait, the line is read on, and what is too much is refused', async () => {
    const link = new RawClient(
      await eventually(() => {
        const [socket] = sockets;
        if (socket === undefined) throw new Error('no connection yet');
        return socket;
      }),
    );
    link.say(
      "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' id='s1' from='broker.example'>",
    );
    await link.until(createHash('sha1').update('s1shh').digest('hex'));
    link.say('<handshake/>');
    const romeo = 'romeo@montague.net/desk';
    link.say(
      `<presence type='subscribe' from='romeo@montague.net' to='x@broker.example'/><presence type='subscribed' from='romeo@montague.net' to='x@broker.example'/><presence from='${romeo}' to='x@broker.example'/>`,
    );
    await link.until('type="subscribed"');
    await hold();
    const bodies = Array.from({ length: WAITING_MAX_FOR_SERVERS }, (_, index) => `n${index}`);
    for (const body of bodies) link.say(message(body, 'x@broker.example', romeo));
    link.say(message('too much', 'x@broker.example', romeo));
    expect(await link.until(/<message[^>]*type="error".*?<\/message>/)).toMatch(/id="too much".*<resource-constraint /);
    link.say(`<iq type='get' id='ping' from='${romeo}' to='broker.example'><ping xmlns='urn:xmpp:ping'/></iq>`);
    await link.until(/<iq type="result"[^>]*id="ping"/);
    expect(await published()).toEqual([]);
    letGo();
    const came: string[] = [];
    await eventually(async () => {
      came.push(...(await published()));
      expect(came).toEqual(bodies);
    });
  });
});

describe('while memory is short', () => {
  const scene = useXmpp();

  it('a client that publishes can take and acknowledge what there is', async () => {
    await scene.channel.declareExchange({ exchange: 'x', type: 'fanout' });
    const raw = await scene.login('desk');
    raw.say("<presence/><presence type='subscribe' to='x@broker.localhost'/>");
    await raw.until('type="subscribed"');
    await scene.broker.administration.setAlarm('memory', true);
    raw.say(message('mine'));
    await raw.settled();
    scene.publish('x', '', 'yours');
    expect(await raw.until('<body>yours<')).not.toContain('mine');
    await scene.broker.administration.setAlarm('memory', false);
    await raw.until('<body>mine<');
  });
});

describe('the gate', () => {
  const large = element('message', CLIENT, {}, 'x'.repeat(WAITING_WEIGHT_MAX / 4));

  it('lets go in order, holds no more than it can bear, and is open when nobody holds it', () => {
    const gate = new PublishGate();
    const [one, two] = [{}, {}];
    const went: number[] = [];
    gate.setHeld(one, true);
    gate.setHeld(two, true);
    for (const index of [0, 1, 2]) gate.wait(large, () => went.push(index));
    expect(() => gate.wait(large, () => {})).toThrow('held back');
    gate.setHeld(one, false);
    expect([gate.isOpen, went]).toEqual([false, []]);
    gate.setAlarmed(true);
    gate.setHeld(two, false);
    expect(went).toEqual([]);
    gate.setAlarmed(false);
    expect([gate.isOpen, went]).toEqual([true, [0, 1, 2]]);
  });

  it('lets one go before the others', () => {
    const gate = new PublishGate();
    gate.setAlarmed(true);
    const went: number[] = [];
    const passes = [0, 1, 2].map((index) => gate.wait(large, () => went.push(index)));
    passes[1]?.();
    passes[1]?.();
    gate.wait(large, () => went.push(3));
    gate.setAlarmed(false);
    expect(went).toEqual([1, 0, 2, 3]);
  });
});

it('what is in hand is counted, in stanzas and in characters', () => {
  const said: boolean[] = [];
  const inHand = new InHand({ count: 4, weight: 1000 }, (isFull) => said.push(isFull));
  const [small, large] = [element('a', CLIENT), element('a', CLIENT, {}, 'x'.repeat(1000))];
  const ends = [small, small, small].map((stanza) => inHand.begin(stanza));
  expect(said).toEqual([]);
  ends.push(inHand.begin(small));
  expect([said, inHand.isFull]).toEqual([[true], true]);
  ends.shift()?.();
  expect(said).toEqual([true]);
  ends.shift()?.();
  expect([said, inHand.isFull]).toEqual([[true, false], false]);
  inHand.begin(large)();
  expect(said).toEqual([true, false, true, false]);
});
