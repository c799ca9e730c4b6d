/** Warren as a component of other servers: their users follow exchanges, and what they miss waits for them. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ChannelModel, connect } from 'amqplib';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { messagesOf, type XmppClient, type XmppElement, xml, xmppClient } from '../../gateways/xmpp/scene.ts';
import { eventually } from '../../support/eventually.ts';
import { WarrenProcess } from '../../support/warren-process.ts';
import { describeWith, ForeignProgram, PYTHON } from '../interop/foreign-program.ts';
import { COMPONENT_DOMAIN, ejabberd, prosody, SECRET, USER, type XmppServer } from './xmpp-servers.ts';

const SLIXMPP = join(import.meta.dirname, 'programs/slixmpp-client.py');
const SLOW = { timeoutMs: 30_000, everyMs: 50 };

function bodies(messages: readonly XmppElement[]): (string | null)[] {
  return messages.map((message) => message.getChildText('body'));
}

function numbered(from: number, to: number): string[] {
  return Array.from({ length: to - from }, (_, index) => `n${from + index}`);
}

function stories(makeServer: () => Promise<XmppServer>): void {
  let server: XmppServer;
  let warren: WarrenProcess;
  let folder: string;
  let amqp: ChannelModel | undefined;
  const clients: XmppClient[] = [];

  async function startWarren(): Promise<void> {
    warren = await WarrenProcess.start({
      dataDir: folder,
      flags: [
        '--xmpp-domains=none',
        `--xmpp-components=${COMPONENT_DOMAIN}`,
        `--xmpp-component-server=127.0.0.1:${server.componentPort}`,
        `--xmpp-component-secret=${SECRET}`,
        '--xmpp-component-user=guest',
      ],
    });
  }

  async function stopWarren(): Promise<void> {
    await amqp?.close().catch(() => {});
    amqp = undefined;
    await warren.stop();
  }

  /** Publishes and waits for the confirms. */
  async function publish(exchange: string, key: string, contents: readonly string[]): Promise<void> {
    amqp ??= await connect(warren.amqpUrl);
    amqp.on('error', () => {});
    const channel = await amqp.createConfirmChannel();
    await channel.assertExchange(exchange, 'topic');
    for (const body of contents) channel.publish(exchange, key, Buffer.from(body), { persistent: true });
    await channel.waitForConfirms();
    await channel.close();
  }

  /** Logs in and grants every request for presence, as a person would. */
  async function online(): Promise<{ client: XmppClient; messages: XmppElement[] }> {
    const service = `xmpp://127.0.0.1:${server.clientPort}`;
    const client = xmppClient({ service, domain: server.domain, ...USER, resource: 'desk' });
    client.on('error', () => {});
    client.on('stanza', ({ name, attrs: { type, from } }) => {
      if (name === 'presence' && type === 'subscribe')
        void client.send(xml('presence', { type: 'subscribed', to: from }));
    });
    clients.push(client);
    const messages = messagesOf(client);
    await client.start();
    await client.iqCaller.request(xml('iq', { type: 'get' }, xml('query', 'jabber:iq:roster')));
    await client.send(xml('presence'));
    return { client, messages };
  }

  async function offline(client: XmppClient): Promise<void> {
    client.reconnect.stop();
    await client.stop();
    // The queue must know, or what follows may still be on its way to the one who has left.
    await eventually(async () => expect(await consumers()).toBe(0), SLOW);
  }

  async function consumers(): Promise<number> {
    amqp ??= await connect(warren.amqpUrl);
    const channel = await amqp.createChannel();
    channel.on('error', () => {});
    const { consumerCount } = await channel.checkQueue(`${USER.username}@${server.domain}`);
    await channel.close();
    return consumerCount;
  }

  async function follow(client: XmppClient, contact: string): Promise<void> {
    const granted = new Promise<void>((resolve) => {
      client.on('stanza', ({ name, attrs: { type, from } }) => {
        if (name === 'presence' && type === undefined && from === `${contact}/app.#`) resolve();
      });
    });
    await client.send(xml('presence', { type: 'subscribe', to: contact }));
    await granted;
    await eventually(async () => expect(await consumers()).toBe(1), SLOW);
  }

  beforeAll(async () => {
    server = await makeServer();
    await server.start();
    folder = mkdtempSync(join(tmpdir(), 'warren-servers-'));
    await startWarren();
    await publish('logs', 'nobody', []);
  });

  afterEach(async () => {
    for (const client of clients.splice(0)) {
      client.reconnect.stop();
      await client.stop().catch(() => {});
    }
  });

  afterAll(async () => {
    await stopWarren();
    await server.remove();
    rmSync(folder, { recursive: true, force: true });
  });

  const contact = `logs+app.#@${COMPONENT_DOMAIN}`;

  it('its user follows an exchange, goes away, and gets what waited, in order, when he is back', async () => {
    const { client, messages } = await online();
    await eventually(async () => {
      // Until the link is up there is nobody to ask.
      const disco = xml(
        'iq',
        { type: 'get', to: COMPONENT_DOMAIN },
        xml('query', 'http://jabber.org/protocol/disco#info'),
      );
      await client.iqCaller.request(disco);
    }, SLOW);
    await follow(client, contact);
    await publish('logs', 'app.login', numbered(0, 20));
    await publish('logs', 'other', ['not for us']);
    await eventually(() => expect(bodies(messages)).toEqual(numbered(0, 20)), SLOW);
    expect(messages[0]?.attrs.from).toBe(`${contact}/app.login`);
    await offline(client);
    await publish('logs', 'app.login', numbered(20, 300));
    const again = await online();
    await eventually(() => expect(bodies(again.messages)).toEqual(numbered(20, 300)), SLOW);
  });

  it('he writes to the exchange, and AMQP gets it', async () => {
    amqp ??= await connect(warren.amqpUrl);
    const channel = await amqp.createChannel();
    const { queue } = await channel.assertQueue('', { exclusive: true });
    await channel.bindQueue(queue, 'logs', 'from.#');
    const { client } = await online();
    const to = `logs@${COMPONENT_DOMAIN}/from.romeo`;
    await client.send(xml('message', { type: 'chat', to, id: 'r1' }, xml('body', {}, 'wherefore?')));
    const message = await eventually(async () => {
      const got = await channel.get(queue, { noAck: true });
      if (got === false) throw new Error('nothing yet');
      return got;
    }, SLOW);
    expect(message.content.toString()).toBe('wherefore?');
    expect(message.properties).toMatchObject({ messageId: 'r1', userId: 'guest' });
    expect(message.properties.headers).toEqual({ 'xmpp-from': `${USER.username}@${server.domain}/desk` });
    await channel.close();
  });

  it('its user subscribes to a node with slixmpp, and gets events', async () => {
    const address = `${USER.username}@${server.domain}`;
    const program = new ForeignProgram(PYTHON, [SLIXMPP, String(server.clientPort), 'pubsub', address, USER.password]);
    await program.succeeds();
    expect(program.printed).toMatch(/^done$/m);
  });

  it('loses nothing on a line that was dead before anybody knew', async () => {
    const { client } = await online();
    await eventually(async () => expect(await consumers()).toBe(1), SLOW);
    // Its server goes on to write, and takes all that it is given.
    const { socket } = client;
    if (socket?.pause === undefined) throw new Error('no socket to stop reading');
    socket.pause();
    await publish('logs', 'app.x', numbered(1000, 1040));
    await eventually(async () => {
      amqp ??= await connect(warren.amqpUrl);
      const channel = await amqp.createChannel();
      expect((await channel.checkQueue(`${USER.username}@${server.domain}`)).messageCount).toBe(0);
      await channel.close();
    }, SLOW);
    client.reconnect.stop();
    socket.destroy?.();
    // A server that lets him resume does not say that he is gone: with the same resource he takes the place of himself.
    const again = await online();
    await eventually(() => expect([...new Set(bodies(again.messages))]).toEqual(numbered(1000, 1040)), SLOW);
    await offline(again.client);
  });

  it('loses nothing across a restart of Warren', async () => {
    const { client, messages } = await online();
    await eventually(async () => expect(await consumers()).toBe(1), SLOW);
    await publish('logs', 'app.x', numbered(300, 320));
    await stopWarren();
    await startWarren();
    await publish('logs', 'app.x', numbered(320, 340));
    // He has done nothing: Warren has asked who is there.
    await eventually(() => expect([...new Set(bodies(messages))]).toEqual(numbered(300, 340)), SLOW);
    await offline(client);
  });

  it('loses nothing across a restart of the server', async () => {
    const { messages } = await online();
    await eventually(async () => expect(await consumers()).toBe(1), SLOW);
    for (const client of clients.splice(0)) client.reconnect.stop();
    await server.stop();
    await publish('logs', 'app.x', numbered(340, 400));
    await server.start();
    const again = await online();
    await eventually(
      () => expect([...new Set([...bodies(messages), ...bodies(again.messages)])]).toEqual(numbered(340, 400)),
      { timeoutMs: 90_000, everyMs: 100 },
    );
  });

  it('the contact goes with its exchange', async () => {
    const { client } = await online();
    const gone = new Promise<void>((resolve) => {
      client.on('stanza', ({ name, attrs: { type, from } }) => {
        if (name === 'presence' && type === 'unsubscribed' && from === contact) resolve();
      });
    });
    await eventually(async () => expect(await consumers()).toBe(1), SLOW);
    const channel = await (amqp as ChannelModel).createChannel();
    await channel.deleteExchange('logs');
    await channel.close();
    await gone;
  });
}

describeWith('prosody', ['prosodyctl', 'about'])('Prosody', () => stories(prosody));
describeWith('ejabberd', ['sh', '-c', 'command -v ejabberdctl && test "$(id -u)" = 0'])('ejabberd', () =>
  stories(ejabberd),
);
