/** What a session does: acks, transactions, subscriptions, receipts, its end. */
import { describe, expect, it } from 'vitest';
import { SUBSCRIPTIONS_MAX } from '../../../gateways/stomp/subscriptions.ts';
import { eventually } from '../../support/eventually.ts';
import { stompFrame } from '../../support/raw-stomp.ts';
import { useStomp } from './scene.ts';

const scene = useStomp();

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

it('a NUL too many between frames is passed over, wherever it comes', async () => {
  const client = await scene.connect();
  client.write('\0\n\0SUBSCRIBE\nid:1\ndestination:/topic/nul\n\n\0\0');
  client.write('\0');
  client.write('\0SEND\ndestination:/topic/nul\n\nx\0\n\0');
  expect((await client.next()).body).toBe('x');
  await client.call('UNSUBSCRIBE', { id: 1 });
});

it('Python says True and False', async () => {
  const queue = scene.fresh('python');
  const client = await scene.connect();
  const subscribe = { id: 1, destination: `/queue/${queue}`, ack: 'client-individual', 'auto-delete': 'False' };
  await client.call('SUBSCRIBE', subscribe);
  client.send('SEND', { destination: `/queue/${queue}` });
  const { headers } = await client.next();
  await client.call('NACK', { id: headers.ack ?? '', requeue: 'False' });
  await client.call('UNSUBSCRIBE', { id: 1 });
  expect([await scene.ready(queue), await scene.unacked(queue)]).toEqual([0, 0]);

  const channel = scene.program.openChannel();
  for (const [persistent, deliveryMode] of [
    ['True', 2],
    ['False', undefined],
    ['Trum', undefined],
    ['trUe', undefined],
  ] as const) {
    await client.call('SEND', { destination: `/queue/${queue}`, persistent });
    const got = await channel.get(queue, { noAck: true });
    expect([persistent, got?.message.properties.deliveryMode]).toEqual([persistent, deliveryMode]);
  }
  const refused = await client.call('SUBSCRIBE', { id: 2, destination: `/queue/${queue}`, exclusive: 'TRUE' });
  expect(refused.headers.message).toBe('Invalid header');
});

describe('transactions', () => {
  it('SEND and ACK take effect at COMMIT, together', async () => {
    const queue = scene.fresh('tx');
    const client = await scene.connect();
    await client.call('SEND', { destination: `/queue/${queue}` }, 'first');
    await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}`, ack: 'client', 'prefetch-count': 1 });
    const { headers } = await client.next();
    await client.call('BEGIN', { transaction: 't' });
    client.send('SEND', { destination: `/queue/${queue}`, transaction: 't' }, 'second');
    await client.call('ACK', { id: headers.ack ?? '', transaction: 't' });
    expect([await scene.ready(queue), await scene.unacked(queue)]).toEqual([0, 1]);
    await client.call('COMMIT', { transaction: 't' });
    expect((await client.next()).body).toBe('second');
    expect([await scene.ready(queue), await scene.unacked(queue)]).toEqual([0, 1]);
  });

  it('the RECEIPT of a SEND comes when its COMMIT is done, and never when there is none', async () => {
    const queue = scene.fresh('tx');
    const client = await scene.connect();
    for (const [transaction, receipt] of [
      ['t', 'sent'],
      ['u', 'forgotten'],
    ] as const) {
      client.send('BEGIN', { transaction });
      client.send('SEND', { destination: `/queue/${queue}`, transaction, receipt });
    }
    client.send('ABORT', { transaction: 'u', receipt: 'aborted' });
    client.send('COMMIT', { transaction: 't', receipt: 'committed' });
    const receipts = (await client.take(3)).map(({ headers }) => headers['receipt-id']);
    expect(receipts).toEqual(['aborted', 'sent', 'committed']);
  });

  it('ABORT forgets', async () => {
    const queue = scene.fresh('tx');
    const client = await scene.connect();
    await client.call('BEGIN', { transaction: 't' });
    client.send('SEND', { destination: `/queue/${queue}`, transaction: 't' }, 'x');
    await client.call('ABORT', { transaction: 't' });
    expect(await scene.ready(queue)).toBe(0);
    await client.call('BEGIN', { transaction: 't' });
  });

  it('when one message cannot be published, none is', async () => {
    const queue = scene.fresh('tx');
    const client = await scene.connect();
    await client.call('BEGIN', { transaction: 't' });
    client.send('SEND', { destination: `/queue/${queue}`, transaction: 't' }, 'x');
    client.send('SEND', { destination: '/exchange/no.such/k', transaction: 't' }, 'x');
    expect((await client.call('COMMIT', { transaction: 't' })).headers.message).toBe('not_found');
    expect(await scene.ready(queue)).toBe(0);
  });

  it('when a full queue refuses one of its messages, COMMIT says so, and nothing is acked', async () => {
    const [full, queue] = [scene.fresh('full'), scene.fresh('tx')];
    const args = { 'x-max-length': 1, 'x-overflow': 'reject-publish' };
    await scene.program.openChannel().declareQueue({ queue: full, durable: true, arguments: args });
    const client = await scene.connect();
    await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}`, ack: 'client' });
    await client.call('SEND', { destination: `/queue/${queue}` }, 'to be moved');
    const { headers } = await client.next();
    await client.call('BEGIN', { transaction: 't' });
    for (let sent = 0; sent < 2; sent += 1) client.send('SEND', { destination: `/queue/${full}`, transaction: 't' });
    client.send('ACK', { id: headers.ack ?? '', transaction: 't' });
    client.send('COMMIT', { transaction: 't', receipt: 'committed' });
    expect(await client.next()).toMatchObject({
      command: 'ERROR',
      headers: { message: 'precondition_failed', 'receipt-id': 'committed' },
    });
    await eventually(async () => expect([await scene.ready(full), await scene.ready(queue)]).toEqual([1, 1]));
  });

  it('an ack that comes twice in one is an error, and the others count', async () => {
    const queue = scene.fresh('tx');
    const client = await scene.connect({ 'accept-extensions': 'warren.soft-error' });
    await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}`, ack: 'client-individual' });
    for (let sent = 0; sent < 3; sent += 1) client.send('SEND', { destination: `/queue/${queue}` });
    const acks = (await client.take(3)).map(({ headers }) => headers.ack ?? '');
    await client.call('BEGIN', { transaction: 't' });
    for (const index of [0, 0, 1]) client.send('ACK', { id: acks[index] ?? '', transaction: 't' });
    expect((await client.call('COMMIT', { transaction: 't' })).headers).toMatchObject({ status: 'error', code: '406' });
    expect(await scene.unacked(queue)).toBe(1);
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

describe('a subscription that the server ends', () => {
  const EVENTS = { id: 'events', destination: '/warren/events' };

  it('with events is told there, and makes room for others', async () => {
    const queue = scene.fresh('ended');
    const channel = scene.program.openChannel();
    await channel.declareQueue({ queue });
    const client = await scene.connect({ 'accept-extensions': 'warren.soft-error' });
    await client.call('SUBSCRIBE', EVENTS);
    const destination = `/amq/queue/${queue}`;
    const all = Array.from({ length: SUBSCRIPTIONS_MAX }, (_, id) => stompFrame('SUBSCRIBE', { id, destination }));
    client.write(Buffer.concat(all));
    const refused = await client.call('SUBSCRIBE', { id: 'more', destination });
    expect(refused.headers.status).toBe('error');
    await channel.deleteQueue(queue);
    const events = await client.take(SUBSCRIPTIONS_MAX);
    expect(events.every(({ headers }) => headers.reason === 'queue-deleted')).toBe(true);
    const other = { id: 'more', destination: `/queue/${queue}` };
    expect((await client.call('SUBSCRIBE', other)).headers.status).toBeUndefined();
  });

  it('because an ack took too long gives back what it holds: with events the session goes on, else it ends', async () => {
    for (const extensions of ['warren.soft-error', '']) {
      const queue = scene.fresh('late');
      await scene.program.openChannel().declareQueue({ queue, arguments: { 'x-consumer-timeout': 100 } });
      const client = await scene.connect({ 'accept-extensions': extensions });
      if (extensions !== '') await client.call('SUBSCRIBE', EVENTS);
      await client.call('SUBSCRIBE', { id: 1, destination: `/amq/queue/${queue}`, ack: 'client' });
      client.send('SEND', { destination: `/amq/queue/${queue}` });
      const { headers } = await client.next();
      const told = await client.next();
      if (extensions === '') {
        expect([told.command, told.headers.message]).toEqual(['ERROR', 'Server cancelled subscription']);
        await client.end();
      } else {
        expect(told.headers).toMatchObject({ 'cancelled-subscription': '1', reason: 'timeout' });
        expect((await client.call('ACK', { id: headers.ack ?? '' })).headers.code).toBe('404');
      }
      expect([await scene.ready(queue), await scene.unacked(queue)]).toEqual([1, 0]);
    }
  });

  it('what it holds can still be acked, and then it is forgotten', async () => {
    const queue = scene.fresh('ended');
    const client = await scene.connect({ 'accept-extensions': 'warren.soft-error' });
    await client.call('SUBSCRIBE', EVENTS);
    await client.call('SUBSCRIBE', { id: 1, destination: `/queue/${queue}`, ack: 'client' });
    await client.call('SEND', { destination: `/queue/${queue}` });
    const { headers } = await client.next();
    await scene.program.openChannel().deleteQueue(queue);
    expect((await client.next()).headers.event).toBe('subscription-cancelled');
    expect((await client.call('ACK', { id: headers.ack ?? '' })).headers.status).toBeUndefined();
    expect((await client.call('ACK', { id: headers.ack ?? '' })).headers.code).toBe('404');
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

it('whoever ends his side of the socket after his frames still gets the answers', async () => {
  const client = await scene.dial();
  const queue = scene.fresh('piped');
  const login = { 'accept-version': '1.2', login: 'guest', passcode: 'guest' };
  client.socket.end(
    Buffer.concat([
      stompFrame('CONNECT', login),
      stompFrame('SUBSCRIBE', { id: 1, destination: `/queue/${queue}` }),
      stompFrame('SEND', { destination: `/queue/${queue}`, receipt: 'r', persistent: true }, 'hello'),
    ]),
  );
  const commands = (await client.take(3)).map(({ command }) => command);
  expect(commands.sort()).toEqual(['CONNECTED', 'MESSAGE', 'RECEIPT']);
  await client.end();
});
