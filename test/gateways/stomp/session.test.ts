/** What a client of STOMP observes: destinations, headers, acks, receipts, transactions, subscriptions. */
import { describe, expect, it } from 'vitest';
import { createMessage } from '../../../broker/message.ts';
import { eventually } from '../../support/eventually.ts';
import { useStomp } from './scene.ts';

const scene = useStomp();

describe('CONNECT', () => {
  it.each([
    ['1.2', '1.2'],
    ['1.0,1.1,1.2', '1.2'],
    ['1.0,1.1', '1.1'],
    ['1.1, 2.0', '1.1'],
    ['1.0', '1.0'],
  ])('accept-version %s gives %s', async (accepted, version) => {
    const client = await scene.dial();
    const { command, headers } = await client.login({ 'accept-version': accepted });
    expect([command, headers.version]).toEqual(['CONNECTED', version]);
    expect(headers.session).toMatch(/^session-./);
    expect(headers.server).toMatch(/^Warren\//);
  });

  it('no accept-version is 1.0, and the command STOMP does the same', async () => {
    const client = await scene.dial();
    client.send('STOMP', { login: 'guest', passcode: 'guest' });
    expect((await client.next()).headers.version).toBe('1.0');
  });

  it('no common version is refused with the versions there are', async () => {
    const client = await scene.dial();
    const { command, headers, body } = await client.login({ 'accept-version': '2.0' });
    expect([command, headers.message, headers.version]).toEqual(['ERROR', 'Version mismatch', '1.0,1.1,1.2']);
    expect(body).toContain('1.0,1.1,1.2');
    await client.end();
  });

  it.each([
    ['a wrong passcode', { passcode: 'wrong' }, 'Bad CONNECT'],
    ['an unknown virtual host', { host: 'nowhere' }, 'not_allowed'],
    ['heart-beats that are none', { 'heart-beat': 'often' }, 'Bad CONNECT'],
  ])('%s is refused', async (_what, headers, message) => {
    const client = await scene.dial();
    const answer = await client.login(headers);
    expect([answer.command, answer.headers.message]).toEqual(['ERROR', message]);
    await client.end();
  });

  it('no login is refused where there is no default user', async () => {
    const client = await scene.dial();
    client.send('CONNECT', { 'accept-version': '1.2', host: '/' });
    expect((await client.next()).headers.message).toBe('Bad CONNECT');
  });

  it("host selects the virtual host, and rights in it are the broker's", async () => {
    const { administration } = scene.broker;
    await administration.putVhost({ name: 'other' });
    await administration.putUser({ name: 'anna', password: 'secret' });
    await administration.setPermission({ vhost: 'other', user: 'anna', configure: '', write: '^mine', read: '.*' });
    const client = await scene.connect({ host: 'other', login: 'anna', passcode: 'secret' });
    const answer = await client.call('SEND', { destination: '/exchange/amq.topic/k' }, 'x');
    expect([answer.command, answer.headers.message]).toEqual(['ERROR', 'access_refused']);
  });
});

describe('destinations', () => {
  it('/queue/N is declared durable once, shared, and kept', async () => {
    const queue = scene.fresh('q');
    const client = await scene.connect();
    await client.call('SEND', { destination: `/queue/${queue}` }, 'one');
    const { queues } = await scene.broker.snapshot('/');
    expect(queues.find(({ name }) => name === queue)).toMatchObject({
      durable: true,
      autoDelete: false,
      messagesReady: 1,
    });
    const other = await scene.connect();
    await other.call('SUBSCRIBE', { id: 's', destination: `/queue/${queue}` });
    expect(await other.next()).toMatchObject({
      command: 'MESSAGE',
      headers: { subscription: 's', destination: `/queue/${queue}`, redelivered: 'false', 'content-length': '3' },
      body: 'one',
    });
  });

  it('a queue that is there already is taken as it is', async () => {
    const queue = scene.fresh('not-durable');
    await scene.program.openChannel().declareQueue({ queue, arguments: { 'x-max-length': 5 } });
    const client = await scene.connect();
    expect((await client.call('SEND', { destination: `/queue/${queue}` }, 'x')).command).toBe('RECEIPT');
    expect((await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}`, 'x-max-length': 5 })).command).toBe(
      'ERROR',
    );
  });

  it('/amq/queue/N never declares', async () => {
    const client = await scene.connect();
    const queue = scene.fresh('missing');
    expect((await client.call('SEND', { destination: `/amq/queue/${queue}` }, 'lost')).command).toBe('RECEIPT');
    const answer = await client.call('SUBSCRIBE', { id: 1, destination: `/amq/queue/${queue}` });
    expect([answer.command, answer.headers.message]).toEqual(['ERROR', 'not_found']);
  });

  it('/topic/k fans out by pattern, each subscription with a queue of its own that goes with it', async () => {
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 'all', destination: '/topic/news.#' });
    await client.call('SUBSCRIBE', { id: 'one', destination: '/topic/news.*' });
    client.send('SEND', { destination: '/topic/news.berlin' }, 'b');
    client.send('SEND', { destination: '/topic/news.berlin.mitte' }, 'm');
    const got = await client.take(3);
    expect(got.map(({ headers, body }) => [headers.subscription, headers.destination, body]).sort()).toEqual([
      ['all', '/topic/news.berlin', 'b'],
      ['all', '/topic/news.berlin.mitte', 'm'],
      ['one', '/topic/news.berlin', 'b'],
    ]);
    const made = async () =>
      (await scene.broker.snapshot('/')).queues.filter(({ name }) => name.startsWith('stomp-subscription-'));
    expect((await made()).map(({ exclusive, autoDelete }) => [exclusive, autoDelete])).toEqual([
      [true, true],
      [true, true],
    ]);
    await client.call('UNSUBSCRIBE', { id: 'all' });
    expect(await made()).toHaveLength(1);
    await client.call('DISCONNECT');
    expect(await made()).toHaveLength(0);
  });

  it('/exchange/N/key publishes and binds; nothing is bound without a key', async () => {
    const channel = scene.program.openChannel();
    await channel.declareExchange({ exchange: 'stomp.x', type: 'direct' });
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 1, destination: '/exchange/stomp.x/a' });
    await client.call('SUBSCRIBE', { id: 2, destination: '/exchange/stomp.x', 'x-queue-name': 'unbound' });
    await client.call('SEND', { destination: '/exchange/stomp.x/a' }, 'A');
    await client.call('SEND', { destination: '/exchange/stomp.x' }, 'nowhere');
    expect((await client.next()).headers).toMatchObject({ subscription: '1', destination: '/exchange/stomp.x/a' });
    const { bindings } = await scene.broker.snapshot('/');
    expect(bindings.filter(({ source, destination }) => source === 'stomp.x' && destination === 'unbound')).toEqual([]);
    const answer = await client.call('SEND', { destination: '/exchange/no.such' }, 'x');
    expect([answer.command, answer.headers.message]).toEqual(['ERROR', 'not_found']);
  });

  it('names are escaped both ways', async () => {
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 1, destination: '/queue/a%2Fb%25c%C3%A9' });
    expect(await scene.ready('a/b%cé')).toBe(0);
    client.send('SEND', { destination: '/queue/a%2Fb%25c%C3%A9' }, 'x');
    expect((await client.next()).headers.destination).toBe('/queue/a%2Fb%25c%C3%A9');
  });

  it.each([
    ['/nowhere/x', 'Unknown destination'],
    ['/queue/', 'Unknown destination'],
    ['/queue/a/b', 'Unknown destination'],
    ['/exchange/a/b/c', 'Unknown destination'],
    ['/temp-queue/x', 'Invalid destination'],
    ['/queue/%FF', 'Unknown destination'],
    [`/queue/${'n'.repeat(256)}`, 'Invalid destination'],
  ])('SEND to %s is refused: %s', async (destination, message) => {
    const client = await scene.connect();
    const answer = await client.call('SEND', { destination }, 'x');
    expect([answer.command, answer.headers.message]).toEqual(['ERROR', message]);
    await client.end();
  });

  it('a frame without destination is refused', async () => {
    for (const command of ['SEND', 'SUBSCRIBE']) {
      const client = await scene.connect();
      expect((await client.call(command, { id: 1 })).headers.message).toBe('Missing destination');
    }
  });
});

describe('reply queues', () => {
  it('/temp-queue/N in reply-to: the responder gets an address, the requester the reply', async () => {
    const queue = scene.fresh('rpc');
    const responder = await scene.connect();
    await responder.call('SUBSCRIBE', { id: 'rpc', destination: `/queue/${queue}` });
    const requester = await scene.connect();
    for (const question of ['first?', 'second?']) {
      requester.send(
        'SEND',
        { destination: `/queue/${queue}`, 'reply-to': '/temp-queue/answers', 'correlation-id': 7 },
        question,
      );
      const request = await responder.next();
      const address = request.headers['reply-to'] ?? '';
      expect(address).toMatch(/^\/reply-queue\/stomp\.gen-/);
      responder.send('SEND', { destination: address, 'correlation-id': 7 }, `re: ${question}`);
      const reply = await requester.next();
      expect(reply.body).toBe(`re: ${question}`);
      expect(reply.headers).toMatchObject({ subscription: '/temp-queue/answers', 'correlation-id': '7' });
    }
  });

  it('to an AMQP responder the reply-to is the name of the queue', async () => {
    const queue = scene.fresh('rpc');
    const requester = await scene.connect();
    await requester.call('SEND', { destination: `/queue/${queue}`, 'reply-to': '/temp-queue/a' }, '?');
    const channel = scene.program.openChannel();
    const got = await channel.get(queue, { noAck: true });
    const replyTo = got?.message.properties.replyTo ?? '';
    expect(replyTo).toMatch(/^stomp\.gen-/);
    channel.publish(createMessage({ routingKey: replyTo, body: '!' }));
    expect((await requester.next()).body).toBe('!');
  });

  it('anybody may send to the exclusive queue of an AMQP requester', async () => {
    const owner = await scene.broker.connect();
    const channel = owner.openChannel();
    const { queue } = await channel.declareQueue({ queue: '', exclusive: true });
    const responder = await scene.connect();
    expect((await responder.call('SEND', { destination: queue }, 're')).command).toBe('RECEIPT');
    expect((await channel.get(queue))?.message.bodyBytes).toBe(2);
    await owner.close();
  });
});

describe('headers', () => {
  it('properties become properties, the rest headers, the transport nothing', async () => {
    const queue = scene.fresh('headers');
    const client = await scene.connect();
    await client.call(
      'SEND',
      {
        destination: `/queue/${queue}`,
        persistent: true,
        'content-type': 'text/plain',
        'content-encoding': 'gzip',
        priority: 5,
        'correlation-id': 'c\\c1',
        'reply-to': '/queue/r',
        expiration: 60000,
        'amqp-message-id': 'm1',
        timestamp: 1700000000,
        type: 't',
        'user-id': 'guest',
        'app-id': 'app',
        'x-max-length': 9,
        'content-length': 2,
        foo: 'bar\\nbaz',
        'x-arg-x-overflow': 'drop-head',
        constructor: 'c',
      },
      'hi',
    );
    const got = await scene.program.openChannel().get(queue, { noAck: true });
    expect(got?.message.persistent).toBe(true);
    expect(got?.message.properties).toEqual({
      contentType: 'text/plain',
      contentEncoding: 'gzip',
      deliveryMode: 2,
      priority: 5,
      correlationId: 'c:1',
      replyTo: '/queue/r',
      expiration: '60000',
      messageId: 'm1',
      timestamp: 1700000000,
      type: 't',
      userId: 'guest',
      appId: 'app',
      headers: { foo: 'bar\nbaz', constructor: 'c' },
    });
  });

  it('an AMQP message shows its properties, and headers of every type', async () => {
    const queue = scene.fresh('typed');
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}` });
    const headers = {
      s: 'text',
      n: 5,
      b: true,
      f: 1.5,
      big: 2n ** 60n,
      t: new Date(5000),
      list: [1, 'a'],
      map: { k: 1n },
    };
    const properties = { contentType: 'a/b', deliveryMode: 2, priority: 3, messageId: 'm', timestamp: 9, headers };
    scene.program.openChannel().publish(createMessage({ routingKey: queue, body: 'x', properties }));
    expect((await client.next()).headers).toMatchObject({
      'content-type': 'a/b',
      persistent: 'true',
      priority: '3',
      'amqp-message-id': 'm',
      timestamp: '9',
      s: 'text',
      n: '5',
      b: 'true',
      f: '1.5',
      big: '1152921504606846976',
      t: '5',
      list: '[1,"a"]',
      map: '{"k":1}',
    });
  });

  it.each([
    ['message-id', 'x'],
    ['priority', 'high'],
    ['priority', '256'],
    ['timestamp', 'now'],
    ['mandatory', 'maybe'],
  ])('%s:%s on SEND is refused', async (name, value) => {
    const client = await scene.connect();
    const answer = await client.call('SEND', { destination: '/topic/x', [name]: value }, 'x');
    expect([answer.command, answer.headers.message]).toEqual(['ERROR', 'Invalid header']);
    expect(answer.body).toContain(`'${name}'`);
  });

  it('queue arguments on SUBSCRIBE have the types that the broker expects', async () => {
    const queue = scene.fresh('args');
    const client = await scene.connect();
    await client.call('SUBSCRIBE', {
      id: 1,
      destination: `/queue/${queue}`,
      'x-message-ttl': 1000,
      'x-max-length': 5,
      'x-dead-letter-exchange': 'amq.topic',
      'x-overflow': 'reject-publish',
      'x-single-active-consumer': true,
      'x-delivery-limit': 3,
      'x-arg-x-max-length-bytes': 'i\\c100',
      'x-arg-x-own': 's\\c5',
    });
    const { queues } = await scene.broker.snapshot('/');
    expect({ ...queues.find(({ name }) => name === queue)?.arguments }).toEqual({
      'x-message-ttl': 1000,
      'x-max-length': 5,
      'x-dead-letter-exchange': 'amq.topic',
      'x-overflow': 'reject-publish',
      'x-single-active-consumer': true,
      'x-delivery-limit': 3,
      'x-max-length-bytes': 100,
      'x-own': '5',
    });
  });

  it('binary bodies with NULs pass, and empty ones', async () => {
    const queue = scene.fresh('binary');
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}` });
    const body = Buffer.from([0, 1, 0, 255, 10, 0]);
    client.send('SEND', { destination: `/queue/${queue}`, 'content-length': body.length }, body);
    client.send('SEND', { destination: `/queue/${queue}` });
    expect((await client.take(2)).map((frame) => frame.body)).toEqual([body.toString('latin1'), '']);
  });
});

describe('acks', () => {
  async function holding(mode: string, count: number, more = {}) {
    const queue = scene.fresh('acks');
    const client = await scene.connect();
    for (let index = 1; index <= count; index += 1)
      await client.call('SEND', { destination: `/queue/${queue}` }, `m${index}`);
    await client.call('SUBSCRIBE', { id: 'a', destination: `/queue/${queue}`, ack: mode, ...more });
    const messages = await client.take(count);
    return { queue, client, acks: messages.map(({ headers }) => headers.ack ?? '') };
  }

  it('client: an ack covers what came before', async () => {
    const { queue, client, acks } = await holding('client', 4);
    await client.call('ACK', { id: acks[2] ?? '' });
    expect(await scene.unacked(queue)).toBe(1);
    await client.call('ACK', { id: acks[0] ?? '' });
    expect(await scene.unacked(queue)).toBe(1);
  });

  it('client-individual: an ack covers one', async () => {
    const { queue, client, acks } = await holding('client-individual', 3);
    await client.call('ACK', { id: acks[1] ?? '' });
    expect(await scene.unacked(queue)).toBe(2);
  });

  it('auto: nothing waits for an ack, and MESSAGE has no ack header', async () => {
    const { queue, acks } = await holding('auto', 2);
    expect(acks).toEqual(['', '']);
    expect([await scene.unacked(queue), await scene.ready(queue)]).toEqual([0, 0]);
  });

  it('NACK requeues, and the message comes again as redelivered', async () => {
    const { client, acks } = await holding('client-individual', 1);
    client.send('NACK', { id: acks[0] ?? '' });
    expect((await client.next()).headers).toMatchObject({ redelivered: 'true' });
  });

  it('NACK with requeue:false dead-letters', async () => {
    const dead = scene.fresh('dead');
    const queue = scene.fresh('living');
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 'd', destination: `/queue/${dead}` });
    const args = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead };
    await client.call('SUBSCRIBE', { id: 'q', destination: `/queue/${queue}`, ack: 'client', ...args });
    client.send('SEND', { destination: `/queue/${queue}`, mine: 'kept' }, 'x');
    client.send('NACK', { id: (await client.next()).headers.ack ?? '', requeue: false });
    const letter = await client.next();
    expect(letter.headers).toMatchObject({
      subscription: 'd',
      destination: `/queue/${dead}`,
      mine: 'kept',
      'x-first-death-queue': queue,
      'x-first-death-reason': 'rejected',
    });
    expect(JSON.parse(letter.headers['x-death'] ?? '')).toMatchObject([{ count: 1, queue, reason: 'rejected' }]);
  });

  it('prefetch-count holds back what is more', async () => {
    const { queue, client, acks } = await holding('client-individual', 2, { 'prefetch-count': 2 });
    client.send('SEND', { destination: `/queue/${queue}` }, 'm3');
    await eventually(async () => expect(await scene.ready(queue)).toBe(1));
    client.send('ACK', { id: acks[0] ?? '' });
    expect((await client.next()).body).toBe('m3');
  });

  it('what is unacked at the end of the connection goes back', async () => {
    const { queue, client } = await holding('client', 3);
    client.destroy();
    await eventually(async () => expect(await scene.ready(queue)).toBe(3));
  });

  it('after UNSUBSCRIBE nothing is delivered, and what was can still be acked', async () => {
    const { queue, client, acks } = await holding('client-individual', 2);
    await client.call('UNSUBSCRIBE', { id: 'a' });
    await client.call('SEND', { destination: `/queue/${queue}` }, 'later');
    expect(client.waiting).toEqual([]);
    for (const id of acks) expect((await client.call('ACK', { id })).command).toBe('RECEIPT');
    expect([await scene.unacked(queue), await scene.ready(queue)]).toEqual([0, 1]);
  });

  it('an id used again gives ids of messages that an earlier ack does not fit', async () => {
    const { queue, client, acks } = await holding('client-individual', 1);
    await client.call('UNSUBSCRIBE', { id: 'a' });
    await client.call('SUBSCRIBE', { id: 'a', destination: `/queue/${queue}`, ack: 'client-individual' });
    const again = await client.next();
    expect(again.headers).toMatchObject({ redelivered: 'true' });
    expect(again.headers.ack).not.toBe(acks[0]);
    expect((await client.call('ACK', { id: acks[0] ?? '' })).headers.message).toBe('Message not found');
  });

  it.each(['nonsense', 'T_a@@session-x@@1', ''])('ack of the unknown id “%s” is refused', async (id) => {
    const { client, queue } = await holding('client', 1);
    const answer = await client.call('ACK', { id });
    expect([answer.command, answer.headers.message]).toEqual(['ERROR', 'Message not found']);
    await eventually(async () => expect(await scene.ready(queue)).toBe(1));
  });

  it('an unknown ack mode is refused', async () => {
    const client = await scene.connect();
    expect((await client.call('SUBSCRIBE', { id: 1, destination: '/queue/m', ack: 'sometimes' })).command).toBe(
      'ERROR',
    );
  });
});

describe('transactions', () => {
  it('SEND and ACK take effect at COMMIT, together', async () => {
    const queue = scene.fresh('tx');
    const client = await scene.connect();
    await client.call('SEND', { destination: `/queue/${queue}` }, 'first');
    await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}`, ack: 'client', 'prefetch-count': 1 });
    const { headers } = await client.next();
    await client.call('BEGIN', { transaction: 't' });
    await client.call('SEND', { destination: `/queue/${queue}`, transaction: 't' }, 'second');
    await client.call('ACK', { id: headers.ack ?? '', transaction: 't' });
    expect([await scene.ready(queue), await scene.unacked(queue)]).toEqual([0, 1]);
    await client.call('COMMIT', { transaction: 't' });
    expect((await client.next()).body).toBe('second');
    expect([await scene.ready(queue), await scene.unacked(queue)]).toEqual([0, 1]);
  });

  it('ABORT forgets', async () => {
    const queue = scene.fresh('tx');
    const client = await scene.connect();
    await client.call('BEGIN', { transaction: 't' });
    await client.call('SEND', { destination: `/queue/${queue}`, transaction: 't' }, 'x');
    await client.call('ABORT', { transaction: 't' });
    expect(await scene.ready(queue)).toBe(0);
    await client.call('BEGIN', { transaction: 't' });
  });

  it('when one message cannot be published, none is', async () => {
    const queue = scene.fresh('tx');
    const client = await scene.connect();
    await client.call('BEGIN', { transaction: 't' });
    await client.call('SEND', { destination: `/queue/${queue}`, transaction: 't' }, 'x');
    await client.call('SEND', { destination: '/exchange/no.such/k', transaction: 't' }, 'x');
    expect((await client.call('COMMIT', { transaction: 't' })).headers.message).toBe('not_found');
    expect(await scene.ready(queue)).toBe(0);
  });

  it.each([
    ['BEGIN', {}, 'Missing Header'],
    ['COMMIT', { transaction: 'none' }, 'Bad transaction'],
    ['ABORT', { transaction: 'none' }, 'Bad transaction'],
    ['SEND', { transaction: 'none', destination: '/topic/x' }, 'Bad transaction'],
  ])('%s of no transaction is refused', async (command, headers, message) => {
    const client = await scene.connect();
    expect((await client.call(command, headers)).headers.message).toBe(message);
  });

  it('too many transactions, and too much in one, are refused', async () => {
    const client = await scene.connect();
    for (let index = 0; index < 16; index += 1) client.send('BEGIN', { transaction: index });
    expect((await client.call('BEGIN', { transaction: 'more' })).headers.message).toBe('Bad transaction');
    const busy = await scene.connect();
    busy.send('BEGIN', { transaction: 't' });
    for (let index = 0; index < 1024; index += 1) busy.send('SEND', { destination: '/topic/x', transaction: 't' });
    const answer = await busy.call('SEND', { destination: '/topic/x', transaction: 't' });
    expect([answer.headers.message, answer.body]).toEqual([
      'Bad transaction',
      "transaction 't' has more than 1024 frames",
    ]);
  });
});

describe('subscriptions', () => {
  it('a durable one keeps its queue while nobody is there, and is deleted by UNSUBSCRIBE', async () => {
    const durable = { id: 'd1', destination: '/topic/durable.*', durable: true, 'auto-delete': false };
    const first = await scene.connect();
    await first.call('SUBSCRIBE', durable);
    await first.call('DISCONNECT');
    const publisher = await scene.connect();
    await publisher.call('SEND', { destination: '/topic/durable.a' }, 'kept');
    const second = await scene.connect();
    await second.call('SUBSCRIBE', durable);
    expect((await second.next()).body).toBe('kept');
    const third = await scene.connect();
    expect((await third.call('SUBSCRIBE', durable)).command).toBe('RECEIPT');
    for (const client of [second, third]) await client.call('UNSUBSCRIBE', { id: 'd1' });
    await third.call('UNSUBSCRIBE', durable);
    const { queues } = await scene.broker.snapshot('/');
    expect(queues.filter(({ name }) => name.startsWith('stomp-subscription-'))).toEqual([]);
  });

  it('two with one id are refused', async () => {
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 1, destination: '/queue/dup' });
    const answer = await client.call('SUBSCRIBE', { id: 1, destination: '/queue/dup' });
    expect(answer.headers.message).toBe('Duplicated subscription identifier');
  });

  it('unsubscribing what is not subscribed is refused', async () => {
    const client = await scene.connect();
    expect((await client.call('UNSUBSCRIBE', { id: 5 })).headers.message).toBe('Subscription not found');
  });

  it('an id that is too long is refused', async () => {
    const client = await scene.connect();
    const answer = await client.call('SUBSCRIBE', { id: 'i'.repeat(1025), destination: '/queue/x' });
    expect(answer.headers.message).toBe('Invalid header');
  });

  it('x-bind adds keys, x-exchange-type declares a missing exchange, x-queue-name names the queue', async () => {
    const client = await scene.connect();
    await client.call('SUBSCRIBE', {
      id: 1,
      destination: '/exchange/made.here/a',
      'x-exchange-type': 'direct',
      'x-bind': 'b, c',
      'x-queue-name': 'named.here',
    });
    for (const key of ['a', 'b', 'c', 'd']) client.send('SEND', { destination: `/exchange/made.here/${key}` }, key);
    expect((await client.take(3)).map(({ body }) => body)).toEqual(['a', 'b', 'c']);
    expect(await scene.ready('named.here')).toBe(0);
  });

  it('x-declare:passive finds only what is there, none does not look', async () => {
    const queue = scene.fresh('declare');
    const client = await scene.connect({ 'accept-extensions': 'warren.soft-error' });
    const passive = { id: 1, destination: `/queue/${queue}`, 'x-declare': 'passive' };
    expect((await client.call('SUBSCRIBE', passive)).headers).toMatchObject({ status: 'error', code: '404' });
    expect((await client.call('SUBSCRIBE', { ...passive, 'x-declare': 'none' })).headers).toMatchObject({
      code: '404',
    });
    await scene.program.openChannel().declareQueue({ queue });
    expect((await client.call('SUBSCRIBE', passive)).headers.status).toBeUndefined();
  });

  it('a consumer that the server cancels is an ERROR and the end', async () => {
    const queue = scene.fresh('deleted');
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}` });
    await scene.program.openChannel().deleteQueue(queue);
    const answer = await client.next();
    expect([answer.command, answer.headers.message]).toEqual(['ERROR', 'Server cancelled subscription']);
    await client.end();
  });
});

describe('receipts', () => {
  it.each(['SUBSCRIBE', 'BEGIN', 'DISCONNECT'])('%s is answered', async (command) => {
    const client = await scene.connect();
    const answer = await client.call(command, { id: 1, destination: '/queue/receipts', transaction: 't' });
    expect(answer.command).toBe('RECEIPT');
  });

  it('a mandatory message that no queue takes is an error', async () => {
    const client = await scene.connect();
    const answer = await client.call('SEND', { destination: '/topic/nobody', mandatory: true }, 'x');
    expect([answer.command, answer.headers.message]).toEqual(['ERROR', 'Unroutable message']);
    const taken = await scene.connect();
    expect(
      (await taken.call('SEND', { destination: '/queue/bystander', mandatory: false }, 'still here')).command,
    ).toBe('RECEIPT');
  });

  it('ids come back as they were, whatever letters they have', async () => {
    const client = await scene.connect();
    for (const [sent, id] of [
      ['a\\cb', 'a:b'],
      ['é\\n', 'é\n'],
      ['x'.repeat(300), 'x'.repeat(300)],
    ] as const) {
      client.send('SEND', { destination: '/topic/x', receipt: sent });
      expect((await client.next()).headers['receipt-id']).toBe(id);
    }
  });

  it('everything owed is said before the receipt of DISCONNECT, and then the socket ends', async () => {
    const client = await scene.connect();
    for (let index = 0; index < 10; index += 1) client.send('SEND', { destination: '/topic/x', receipt: index });
    client.send('DISCONNECT', { receipt: 'bye' });
    const frames = await client.take(11);
    expect(frames.map(({ headers }) => headers['receipt-id'])).toEqual([...'0123456789', 'bye']);
    await client.end();
  });
});

it('a message that an AMQP exchange delays is delayed by x-delay', async () => {
  const channel = scene.program.openChannel();
  await channel.declareExchange({
    exchange: 'late',
    type: 'x-delayed-message',
    arguments: { 'x-delayed-type': 'topic' },
  });
  const client = await scene.connect();
  await client.call('SUBSCRIBE', { id: 1, destination: '/exchange/late/k' });
  client.send('SEND', { destination: '/exchange/late/k', 'x-delay': 60 }, 'second');
  client.send('SEND', { destination: '/exchange/late/k', AMQ_SCHEDULED_DELAY: 30 }, 'first');
  const got = await client.take(2);
  expect(got.map(({ body }) => body)).toEqual(['first', 'second']);
});

it('x-cc sends copies to further keys', async () => {
  const client = await scene.connect();
  await client.call('SUBSCRIBE', { id: 1, destination: '/queue/cc1' });
  await client.call('SUBSCRIBE', { id: 2, destination: '/queue/cc2' });
  client.send('SEND', { destination: '/queue/cc1', 'x-cc': 'cc2' }, 'x');
  expect((await client.take(2)).map(({ headers }) => headers.subscription).sort()).toEqual(['1', '2']);
});
