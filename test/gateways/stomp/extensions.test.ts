/** What STOMP has not got by itself: configuring the broker, and errors that cost no session. docs/protocols/stomp.md */
import { describe, expect, it } from 'vitest';
import { stompFrame } from '../../support/raw-stomp.ts';
import { useStomp } from './scene.ts';

const scene = useStomp();
const ADMIN = { 'accept-extensions': 'warren.admin,warren.soft-error' };

describe('negotiation', () => {
  it('answers with those that are known', async () => {
    const client = await scene.dial();
    const { headers } = await client.login({ 'accept-extensions': 'warren.soft-error, other.thing' });
    expect(headers.extensions).toBe('warren.soft-error');
  });

  it('says nothing to whom asks for none', async () => {
    const client = await scene.dial();
    expect((await client.login()).headers.extensions).toBeUndefined();
  });

  it.each(['/warren/declare', '/warren/purge'])('without it %s is an unknown destination', async (destination) => {
    const client = await scene.connect();
    const answer = await client.call('SEND', { destination, kind: 'queue', name: 'x' });
    expect([answer.command, answer.headers.message]).toEqual(['ERROR', 'Unknown destination']);
  });

  it('without it there are no events to subscribe to', async () => {
    const client = await scene.connect();
    const answer = await client.call('SUBSCRIBE', { id: 1, destination: '/warren/events' });
    expect(answer.headers.message).toBe('Unknown destination');
  });
});

describe('warren.admin', () => {
  it('has no place in a transaction', async () => {
    const client = await scene.connect(ADMIN);
    await client.call('BEGIN', { transaction: 't' });
    const declare = { destination: '/warren/declare', kind: 'queue', name: 'adm.tx', transaction: 't' };
    const answer = await client.call('SEND', declare);
    expect(answer.headers).toMatchObject({ code: '400', message: expect.stringContaining('transaction') });
    expect(await scene.ready('adm.tx')).toBeUndefined();
  });

  it('goes on under an alarm, when a purge may be what helps', async () => {
    const client = await scene.connect(ADMIN);
    const name = scene.fresh('full');
    await client.call('SEND', { destination: `/queue/${name}` }, 'x');
    await scene.broker.administration.setAlarm('memory', true);
    const purged = await client.call('SEND', { destination: '/warren/purge', name });
    await scene.broker.administration.setAlarm('memory', false);
    expect(purged.headers['message-count']).toBe('1');
  });

  it('declares, binds, purges and deletes', async () => {
    const client = await scene.connect(ADMIN);
    const exchange = { destination: '/warren/declare', kind: 'exchange', name: 'adm.x', type: 'topic', durable: false };
    expect((await client.call('SEND', exchange)).headers).toMatchObject({ exchange: 'adm.x' });
    const queue = {
      destination: '/warren/declare',
      kind: 'queue',
      name: 'adm.q',
      'auto-delete': true,
      'arg.x-max-length': 'i\\c5',
      'arg.x-single-active-consumer': 'b\\ctrue',
      'arg.own': 'j\\c{"deep"\\c[1,true]}',
      'arg.bare': 'text',
    };
    const declared = await client.call('SEND', queue);
    expect(declared.headers).toMatchObject({ queue: 'adm.q', 'message-count': '0', 'consumer-count': '0' });
    const view = (await scene.broker.snapshot('/')).queues.find(({ name }) => name === 'adm.q');
    expect(view).toMatchObject({ durable: true, autoDelete: true });
    expect({ ...view?.arguments }).toEqual({
      'x-max-length': 5,
      'x-single-active-consumer': true,
      own: { deep: [1, true] },
      bare: 'text',
    });
    const binding = { kind: 'binding', source: 'adm.x', target: 'adm.q', 'routing-key': 'a.*' };
    await client.call('SEND', { destination: '/warren/declare', ...binding });
    await client.call('SEND', { destination: '/exchange/adm.x/a.b' });
    expect(await scene.ready('adm.q')).toBe(1);
    expect((await client.call('SEND', { destination: '/warren/purge', name: 'adm.q' })).headers['message-count']).toBe(
      '1',
    );
    await client.call('SEND', { destination: '/warren/delete', ...binding });
    await client.call('SEND', { destination: '/exchange/adm.x/a.b' });
    expect(await scene.ready('adm.q')).toBe(0);
    const gone = await client.call('SEND', {
      destination: '/warren/delete',
      kind: 'queue',
      name: 'adm.q',
      'if-empty': true,
    });
    expect(gone.headers).toMatchObject({ 'message-count': '0' });
    await client.call('SEND', { destination: '/warren/delete', kind: 'exchange', name: 'adm.x', 'if-unused': true });
    expect(await scene.ready('adm.q')).toBeUndefined();
  });

  it('a name is chosen for a queue without one', async () => {
    const client = await scene.connect(ADMIN);
    const answer = await client.call('SEND', { destination: '/warren/declare', kind: 'queue', exclusive: true });
    expect(answer.headers.queue).toMatch(/^amq\.gen-/);
  });

  it('sets and clears policies', async () => {
    const client = await scene.connect(ADMIN);
    const policy = {
      destination: '/warren/policy',
      name: 'short',
      pattern: '^short',
      'apply-to': 'queues',
      priority: 2,
    };
    await client.call('SEND', { ...policy, definition: '{"max-length"\\c1}', 'arg.message-ttl': 'i\\c60000' });
    expect(await scene.broker.administration.policies()).toMatchObject([
      { name: 'short', applyTo: 'queues', priority: 2, definition: { 'max-length': 1, 'message-ttl': 60000 } },
    ]);
    await client.call('SEND', { destination: '/warren/policy', name: 'short', clear: true });
    expect(await scene.broker.administration.policies()).toEqual([]);
  });

  it("rights are the broker's", async () => {
    const { administration } = scene.broker;
    await administration.putUser({ name: 'bob', password: 'b' });
    await administration.setPermission({ vhost: '/', user: 'bob', configure: '^bob', write: '^bob', read: '^bob' });
    const client = await scene.connect({ ...ADMIN, login: 'bob', passcode: 'b' });
    const declare = { destination: '/warren/declare', kind: 'queue' };
    expect((await client.call('SEND', { ...declare, name: 'bobs' })).headers.status).toBeUndefined();
    expect((await client.call('SEND', { ...declare, name: 'annas' })).headers.code).toBe('403');
    const policy = { destination: '/warren/policy', name: 'p', pattern: '.*', definition: '{"max-length"\\c1}' };
    expect((await client.call('SEND', policy)).headers.code).toBe('403');
  });

  it.each([
    [{ destination: '/warren/declare', kind: 'cluster', name: 'x' }, "'kind'"],
    [{ destination: '/warren/declare', name: 'x' }, "'kind'"],
    [{ destination: '/warren/declare', kind: 'exchange' }, "'name'"],
    [{ destination: '/warren/declare', kind: 'queue', name: 'x', 'arg.x-expires': 'soon' }, "'x-expires'"],
    [{ destination: '/warren/declare', kind: 'queue', name: 'x', 'arg.j': 'j\\c{' }, "'j'"],
    [
      { destination: '/warren/declare', kind: 'binding', source: 'a', target: 'b', 'target-kind': 'c' },
      "'target-kind'",
    ],
    [{ destination: '/warren/policy', name: 'p', pattern: '.*', definition: '[]' }, "'definition'"],
    [{ destination: '/warren/policy', name: 'p', pattern: '.*', 'apply-to': 'all of them' }, "'apply-to'"],
    [{ destination: '/warren/nothing' }, '/warren/declare'],
  ])('%j is told what is wrong', async (headers, named) => {
    const client = await scene.connect(ADMIN);
    const answer = await client.call('SEND', headers);
    expect(answer.headers.status).toBe('error');
    expect(answer.headers.message).toContain(named);
  });
});

describe('warren.soft-error', () => {
  it.each([
    ['SEND', { destination: '/exchange/none/k' }, '404'],
    ['SEND', { destination: '/nowhere' }, '400'],
    ['SEND', { destination: '/topic/nobody', mandatory: true }, '312'],
    ['SUBSCRIBE', { id: 1, destination: '/amq/queue/none' }, '404'],
    ['UNSUBSCRIBE', { id: 9 }, '404'],
    ['ACK', { id: 'none' }, '404'],
    ['COMMIT', { transaction: 'none' }, '400'],
  ])('%s %j fails with %s, and the session goes on', async (command, headers, code) => {
    const client = await scene.connect(ADMIN);
    expect((await client.call(command, headers)).headers).toMatchObject({ status: 'error', code });
    expect((await client.call('SEND', { destination: '/topic/x' })).headers.status).toBeUndefined();
  });

  it('a frame that fails costs none of those that came with it', async () => {
    const client = await scene.connect(ADMIN);
    const queue = scene.fresh('together');
    const fails = [
      stompFrame('SEND', { destination: '/nowhere', receipt: 'a' }, 'at once'),
      stompFrame('SEND', { destination: '/exchange/none/k', receipt: 'b' }, 'by the broker'),
      stompFrame('ACK', { id: 'none', receipt: 'c' }),
      stompFrame('SUBSCRIBE', { id: 1, destination: '/amq/queue/none', receipt: 'd' }),
    ];
    const taken = stompFrame('SEND', { destination: `/queue/${queue}` }, 'taken');
    client.write(Buffer.concat(fails.flatMap((frame) => [frame, taken])));
    const answers = (await client.take(fails.length)).map(({ headers }) => [headers['receipt-id'], headers.status]);
    expect(answers).toEqual([...'abcd'].map((receipt) => [receipt, 'error']));
    await client.call('BEGIN', { transaction: 't' });
    expect(await scene.ready(queue)).toBe(fails.length);
  });

  it('a subscription that failed leaves nothing behind', async () => {
    const client = await scene.connect(ADMIN);
    const subscribe = { id: 1, destination: '/exchange/none/k' };
    expect((await client.call('SUBSCRIBE', subscribe)).headers.status).toBe('error');
    const { queues } = await scene.broker.snapshot('/');
    expect(queues.filter(({ name }) => name.startsWith('stomp-subscription-'))).toEqual([]);
    expect((await client.call('SUBSCRIBE', { id: 1, destination: '/topic/x' })).headers.status).toBeUndefined();
  });

  it('a frame without a receipt, and one that is malformed, still end the session', async () => {
    for (const octets of ['SEND\ndestination:/nowhere\n\n\0', 'SEND\nreceipt:1\nbad\n\n\0']) {
      const client = await scene.connect(ADMIN);
      client.write(octets);
      expect((await client.next()).command).toBe('ERROR');
      await client.end();
    }
  });

  it('a subscription that the server ends is an event', async () => {
    const queue = scene.fresh('ends');
    const client = await scene.connect(ADMIN);
    await client.call('SUBSCRIBE', { id: 'e', destination: '/warren/events' });
    await client.call('SUBSCRIBE', { id: 'q', destination: `/queue/${queue}` });
    await client.call('SEND', { destination: '/warren/delete', kind: 'queue', name: queue });
    expect(await client.next()).toMatchObject({
      command: 'MESSAGE',
      headers: {
        subscription: 'e',
        event: 'subscription-cancelled',
        'cancelled-subscription': 'q',
        reason: 'queue-deleted',
      },
    });
    expect((await client.call('SUBSCRIBE', { id: 'q', destination: `/queue/${queue}` })).command).toBe('RECEIPT');
    await client.call('UNSUBSCRIBE', { id: 'e' });
  });
});
