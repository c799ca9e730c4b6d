/**
 * What is known to go wrong between STOMP clients and brokers, and is done right here: one test or more for each, named
 * as docs/protocols/stomp.md numbers them.
 */
import { describe, expect, it } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { eventually } from '../../support/eventually.ts';
import { stompFrame } from '../../support/raw-stomp.ts';
import { useStomp } from './scene.ts';

const scene = useStomp();

describe('1. the socket ends after every ERROR, so that clients connect again', () => {
  it.each([
    ['bad destination', 'SEND', { destination: '/nowhere' }],
    ['unknown exchange', 'SEND', { destination: '/exchange/none/k' }],
    ['unknown subscription', 'UNSUBSCRIBE', { id: 'x' }],
    ['unknown transaction', 'COMMIT', { transaction: 'x' }],
    ['unknown message', 'ACK', { id: 'x' }],
  ])('%s', async (_what, command, headers) => {
    const client = await scene.connect();
    client.send(command, headers);
    expect((await client.next()).command).toBe('ERROR');
    await client.end();
  });

  it('with warren.soft-error a failed frame costs the session nothing', async () => {
    const client = await scene.connect({ 'accept-extensions': 'warren.soft-error' });
    const failed = await client.call('SUBSCRIBE', { id: 1, destination: '/amq/queue/none' });
    expect(failed).toMatchObject({ command: 'RECEIPT', headers: { status: 'error', code: '404' } });
    expect(failed.headers.message).toContain("no queue 'none'");
    expect((await client.call('SEND', { destination: '/topic/x' })).headers.status).toBeUndefined();
  });
});

describe('2. the ERROR arrives before the end', () => {
  it('although the client has sent much that is not read any more', async () => {
    const client = await scene.connect();
    client.write(Buffer.concat([stompFrame('NONSENSE'), Buffer.alloc(3_000_000, 'x')]));
    expect((await client.next()).headers.message).toBe('Bad command');
    await client.end();
  });
});

describe('3. ERROR names the frame it is about', () => {
  it('by its receipt', async () => {
    const client = await scene.connect();
    client.send('SEND', { destination: '/exchange/none/k', receipt: 'r1' }, 'x');
    expect(await client.next()).toMatchObject({ command: 'ERROR', headers: { 'receipt-id': 'r1' } });
  });

  it('also when a full queue rejects the message', async () => {
    const queue = scene.fresh('full');
    const args = { 'x-max-length': 1, 'x-overflow': 'reject-publish' };
    await scene.program.openChannel().declareQueue({ queue, arguments: args });
    const client = await scene.connect();
    expect((await client.call('SEND', { destination: `/queue/${queue}` }, '1')).command).toBe('RECEIPT');
    client.send('SEND', { destination: `/queue/${queue}`, receipt: 'rejected' }, '2');
    expect(await client.next()).toMatchObject({
      command: 'ERROR',
      headers: { 'receipt-id': 'rejected', message: 'precondition_failed' },
    });
    await client.end();
  });

  it('also when the frame itself is malformed behind its headers', async () => {
    const client = await scene.connect();
    client.write('SEND\ndestination:/topic/x\nreceipt:r2\ncontent-length:1\n\nlonger\0');
    expect((await client.next()).headers).toMatchObject({ 'receipt-id': 'r2', message: 'Invalid frame' });
  });
});

describe('4. escapes are those of the version, and CONNECT has none', () => {
  it('a passcode with a backslash logs in', async () => {
    const { administration } = scene.broker;
    const passcode = 'back\\slash\\n:colon';
    await administration.putUser({ name: 'eve', password: passcode });
    await administration.setPermission({ vhost: '/', user: 'eve', configure: '.*', write: '.*', read: '.*' });
    for (const version of ['1.0', '1.1', '1.2']) {
      await scene.connect({ 'accept-version': version, login: 'eve', passcode });
    }
  });

  it.each([
    ['1.0', 'a\\nb\\q', 'a\\nb\\q'],
    ['1.1', 'a\\nb\\cc\\\\', 'a\nb:c\\'],
    ['1.2', 'a\\nb\\cc\\\\\\r', 'a\nb:c\\\r'],
  ])('in %s “%s” means what it means there', async (version, written, meant) => {
    const queue = scene.fresh('escapes');
    const client = await scene.connect({ 'accept-version': version });
    await client.call('SEND', { destination: `/queue/${queue}`, h: written });
    const got = await scene.program.openChannel().get(queue, { noAck: true });
    expect(got?.message.properties.headers).toEqual({ h: meant });
  });

  it.each([
    ['1.1', '\\r'],
    ['1.1', '\\t'],
    ['1.2', '\\t'],
    ['1.2', '\\'],
  ])('in %s “%s” ends the connection', async (version, sequence) => {
    const client = await scene.connect({ 'accept-version': version });
    client.send('SEND', { destination: '/topic/x', h: `a${sequence}` });
    expect((await client.next()).headers.message).toBe('Invalid escape sequence');
    await client.end();
  });

  it('a message of one version is written for each subscriber in his', async () => {
    const destination = `/topic/${scene.fresh('versions')}`;
    const clients = await Promise.all(
      ['1.0', '1.1', '1.2'].map((version) => scene.connect({ 'accept-version': version })),
    );
    for (const client of clients) await client.call('SUBSCRIBE', { id: 'v', destination });
    clients[2]?.send('SEND', { destination, h: 'a\\cb\\r\\n\\\\' });
    const lines = [];
    for (const client of clients) lines.push((await client.next()).lines.find((line) => line.startsWith('h:')));
    expect(lines).toEqual(['h:a:b\r\\n\\', 'h:a\\cb\r\\n\\\\', 'h:a\\cb\\r\\n\\\\']);
  });
});

describe('5. ack:client acks within one subscription', () => {
  it('and leaves the others alone', async () => {
    const [first, second] = [scene.fresh('one'), scene.fresh('two')];
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${first}`, ack: 'client' });
    await client.call('SUBSCRIBE', { id: 2, destination: `/queue/${second}`, ack: 'client' });
    for (const queue of [first, second]) await client.call('SEND', { destination: `/queue/${queue}` });
    const [, later] = await client.take(2);
    await client.call('ACK', { id: later?.headers.ack ?? '' });
    expect([await scene.unacked(first), await scene.unacked(second)]).toEqual([1, 0]);
  });
});

describe('6. transport does not leak, and nothing vanishes', () => {
  it('receipt, transaction, content-length and queue arguments are not stored', async () => {
    const queue = scene.fresh('leak');
    const client = await scene.connect();
    await client.call('BEGIN', { transaction: 't' });
    const transport = {
      transaction: 't',
      'x-max-length': 5,
      'x-expires': 90_000,
      'auto-delete': false,
      mandatory: true,
    };
    client.send(
      'SEND',
      { destination: `/queue/${queue}`, receipt: 'r', ...transport, 'content-length': 1, mine: 1 },
      'x',
    );
    client.send('COMMIT', { transaction: 't' });
    expect((await client.next()).headers['receipt-id']).toBe('r');
    const got = await scene.program.openChannel().get(queue, { noAck: true });
    expect(got?.message.properties).toEqual({ headers: { mine: '1' } });
  });

  it('headers that are no text reach a STOMP subscriber as text', async () => {
    const queue = scene.fresh('typed');
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}` });
    const headers = { yes: true, ratio: 0.5, table: { a: [1, { b: 'c' }] } };
    scene.program.openChannel().publish(createMessage({ routingKey: queue, properties: { headers } }));
    expect((await client.next()).headers).toMatchObject({ yes: 'true', ratio: '0.5', table: '{"a":[1,{"b":"c"}]}' });
  });

  it('and come back to AMQP with their types, when the broker has moved the message on', async () => {
    const [queue, dead] = [scene.fresh('moved'), scene.fresh('dead')];
    const channel = scene.program.openChannel();
    await channel.declareQueue({ queue: dead });
    const args = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead, 'x-message-ttl': 0 };
    await channel.declareQueue({ queue, arguments: args });
    const client = await scene.connect();
    await client.call('SEND', { destination: `/queue/${queue}`, mine: 'text' });
    const got = await eventually(async () => {
      const letter = await channel.get(dead, { noAck: true });
      if (letter === undefined) throw new Error('not dead yet');
      return letter;
    });
    expect(got.message.properties.headers).toMatchObject({
      mine: 'text',
      'x-death': [{ count: 1n, reason: 'expired' }],
    });
  });
});

describe("7. a MESSAGE has the SEND's destination", () => {
  it.each([
    ['a queue by its bare name', (name: string) => name],
    ['/amq/queue/', (name: string) => `/amq/queue/${name}`],
    ['letters that need no escape', (name: string) => `/queue/%${name.charCodeAt(0).toString(16)}${name.slice(1)}`],
    ['letters that would be escaped', (name: string) => `/queue/${name} ü`],
    ['the default form', (name: string) => `/queue/${name}`],
  ])('%s', async (_what, form) => {
    const name = scene.fresh('unusual');
    const client = await scene.connect();
    const destination = form(name);
    await client.call('SUBSCRIBE', {
      id: 1,
      destination: destination.startsWith('/amq') ? `/queue/${name}` : destination,
    });
    await client.call('SEND', { destination, other: 'header' });
    expect((await client.next()).headers).toMatchObject({ destination, other: 'header' });
  });

  it('the topic exchange by its name', async () => {
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 1, destination: '/topic/named.here' });
    client.send('SEND', { destination: '/exchange/amq.topic/named.here' });
    client.send('SEND', { destination: '/topic/named.here' });
    const destinations = (await client.take(2)).map(({ headers }) => headers.destination);
    expect(destinations).toEqual(['/exchange/amq.topic/named.here', '/topic/named.here']);
  });

  it('but not when it has moved on since', async () => {
    const [queue, dead] = [scene.fresh('left'), scene.fresh('dead')];
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 'd', destination: `/queue/${dead}` });
    const args = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead };
    await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}`, ack: 'client', ...args });
    client.send('SEND', { destination: queue });
    const first = await client.next();
    expect(first.headers.destination).toBe(queue);
    client.send('NACK', { id: first.headers.ack ?? '', requeue: false });
    expect((await client.next()).headers.destination).toBe(`/queue/${dead}`);
  });

  it('an AMQP reader sees nothing of it', async () => {
    const queue = scene.fresh('seen');
    const client = await scene.connect();
    await client.call('SEND', { destination: queue, persistent: true });
    const got = await scene.program.openChannel().get(queue, { noAck: true });
    expect(got?.message.properties).toEqual({ deliveryMode: 2 });
  });
});

describe('8. what is escaped out is unescaped in', () => {
  it('%25, %2F and letters beyond ASCII', async () => {
    const name = '100%/ü';
    await scene.program.openChannel().declareQueue({ queue: name, durable: true });
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 1, destination: '/queue/100%25%2F%C3%BC' });
    scene.program.openChannel().publish(createMessage({ routingKey: name, body: 'x' }));
    const { headers } = await client.next();
    await client.call('SEND', { destination: headers.destination ?? '' }, 'back');
    expect((await client.next()).body).toBe('back');
  });
});

describe('9. content-length counts on SEND only', () => {
  it('a wrong one on ACK is ignored', async () => {
    const queue = scene.fresh('php');
    const client = await scene.connect({ 'accept-version': '1.1' });
    await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}`, ack: 'client' });
    client.send('SEND', { destination: `/queue/${queue}` });
    const { headers } = await client.next();
    await client.call('ACK', { 'message-id': headers['message-id'] ?? '', subscription: 1, 'content-length': 500 });
    expect(await scene.unacked(queue)).toBe(0);
  });

  it('bodies beyond ASCII keep every octet', async () => {
    const queue = scene.fresh('octets');
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}` });
    const body = 'żółw 🐇';
    client.send('SEND', { destination: `/queue/${queue}` }, body);
    const message = await client.next();
    expect(Buffer.from(message.body, 'latin1').toString()).toBe(body);
    expect(Number(message.headers['content-length'])).toBe(Buffer.byteLength(body));
  });
});

describe('10. heart-beats are in milliseconds, and lateness is forgiven', () => {
  it('intervals below a second are kept', async () => {
    const client = await scene.dial();
    const { headers } = await client.login({ 'heart-beat': '150,250' });
    expect(headers['heart-beat']).toBe('250,150');
  });

  it('shorter ones than anybody needs become 100 ms, none stays none', async () => {
    const client = await scene.dial();
    expect((await client.login({ 'heart-beat': '1,0' })).headers['heart-beat']).toBe('0,100');
  });

  it('the server says something within each interval', async () => {
    const client = await scene.connect({ 'heart-beat': '0,100' });
    await eventually(() => expect(client.heartBeats).toBeGreaterThan(3));
  });

  it('a client that is late by half an interval stays, one that is silent goes', async () => {
    const late = await scene.connect({ 'heart-beat': '300,0' });
    const silent = await scene.connect({ 'heart-beat': '300,0' });
    const timer = setInterval(() => late.write('\n'), 450);
    try {
      await silent.end();
      expect(late.ended).toBe(false);
      expect((await late.call('SEND', { destination: '/topic/x' })).command).toBe('RECEIPT');
    } finally {
      clearInterval(timer);
    }
  });
});

describe('11. ACK takes id or message-id in every version', () => {
  it.each(['1.0', '1.1', '1.2'])('%s', async (version) => {
    const queue = scene.fresh('either');
    const client = await scene.connect({ 'accept-version': version });
    await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}`, ack: 'client-individual' });
    for (const name of ['id', 'message-id']) {
      client.send('SEND', { destination: `/queue/${queue}` });
      const { headers } = await client.next();
      expect((await client.call('ACK', { [name]: headers['message-id'] ?? '' })).command).toBe('RECEIPT');
    }
    expect(await scene.unacked(queue)).toBe(0);
  });

  it('only 1.2 has the ack header, with the same value', async () => {
    const queue = scene.fresh('ack');
    for (const [version, has] of [
      ['1.1', false],
      ['1.2', true],
    ] as const) {
      const client = await scene.connect({ 'accept-version': version });
      await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}`, ack: 'client' });
      client.send('SEND', { destination: `/queue/${queue}` });
      const { headers } = await client.next();
      expect(headers.ack).toBe(has ? headers['message-id'] : undefined);
      await client.call('ACK', { 'message-id': headers['message-id'] ?? '' });
      await client.call('UNSUBSCRIBE', { id: 1 });
    }
  });
});

describe('12. what clients of ActiveMQ and Artemis say', () => {
  it('expires is an expiration, 0 is none', async () => {
    const queue = scene.fresh('expires');
    const client = await scene.connect();
    await client.call('SEND', { destination: `/queue/${queue}`, expires: Date.now() + 60_000 });
    await client.call('SEND', { destination: `/queue/${queue}`, expires: 0 });
    await client.call('SEND', { destination: `/queue/${queue}`, expires: Date.now() - 1 }, 'past');
    const channel = scene.program.openChannel();
    const expirations = [];
    for (let count = 0; count < 2; count += 1) {
      expirations.push((await channel.get(queue, { noAck: true }))?.message.properties.expiration);
    }
    expect(Number(expirations[0])).toBeGreaterThan(50_000);
    expect(expirations[1]).toBeUndefined();
    expect(await channel.get(queue, { noAck: true })).toBeUndefined();
  });

  it('selector and browser are refused rather than ignored', async () => {
    for (const header of [{ selector: "a = 'b'" }, { browser: true }]) {
      const client = await scene.connect();
      const answer = await client.call('SUBSCRIBE', { id: 1, destination: '/queue/x', ...header });
      expect(answer.headers.message).toBe('Unsupported header');
    }
  });

  it('client-id and durable-subscription-name make a durable subscription', async () => {
    const durable = { destination: '/topic/amq.*', 'durable-subscription-name': 'mine' };
    const first = await scene.connect({ 'client-id': 'c1' });
    await first.call('SUBSCRIBE', { id: 1, ...durable });
    await first.call('DISCONNECT');
    await (await scene.connect()).call('SEND', { destination: '/topic/amq.x' }, 'kept');
    const other = await scene.connect({ 'client-id': 'c2' });
    await other.call('SUBSCRIBE', { id: 2, ...durable });
    const second = await scene.connect({ 'client-id': 'c1' });
    await second.call('SUBSCRIBE', { id: 3, ...durable });
    expect((await second.next()).body).toBe('kept');
    expect(other.waiting).toEqual([]);
  });

  it('destination-type says what a bare name is, activemq.prefetchSize is a prefetch', async () => {
    const client = await scene.connect();
    const subscribe = {
      destination: 'prices',
      'destination-type': 'MULTICAST',
      ack: 'client',
      'activemq.prefetchSize': 1,
    };
    await client.call('SUBSCRIBE', { id: 1, ...subscribe });
    for (const body of ['1', '2']) {
      await client.call('SEND', { destination: 'prices', 'destination-type': 'MULTICAST' }, body);
    }
    const first = await client.next();
    expect([first.body, client.waiting]).toEqual(['1', []]);
    client.send('ACK', { id: first.headers.ack ?? '' });
    expect((await client.next()).body).toBe('2');
  });
});

it('a raw conversation, as somebody types it', async () => {
  const client = await scene.dial();
  client.write('CONNECT\r\nlogin:guest\r\npasscode:guest\r\n\r\n\0\r\n');
  expect((await client.next()).command).toBe('CONNECTED');
  client.write('SUBSCRIBE\r\ndestination:/queue/typed\r\n\r\n\0\n');
  client.write('SEND\ndestination: /queue/typed\n\nhello\0\n');
  const message = await client.next();
  expect(message).toMatchObject({ command: 'MESSAGE', body: 'hello', headers: { destination: '/queue/typed' } });
  expect(message.headers['message-id']).toMatch(/^Q_\/queue\/typed@@session-/);
  expect(message.headers.subscription).toBeUndefined();
});
