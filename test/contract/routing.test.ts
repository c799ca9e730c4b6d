/** Which queues a message reaches: the exchange types, bindings between exchanges, alternates, copies. */
import { describe, expect, it } from 'vitest';
import type { Properties, Table } from '../support/amqp-wire.ts';
import { useBroker } from '../support/broker-under-test.ts';
import { closesChannel, type RawChannel } from '../support/raw-channel.ts';

const broker = useBroker();

/** Declares a queue bound with `key` and `args` and answers its name. */
async function boundQueue(channel: RawChannel, exchange: string, key = '', args: Table = {}): Promise<string> {
  const queue = await channel.queue(broker.fresh('q'));
  await channel.bind(queue, exchange, key, args);
  return queue;
}

describe('exchange types', () => {
  it('the default exchange routes to the queue of that name', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.put('', queue, 'by name');
    const got = await channel.mustGet(queue);
    expect(got.args).toMatchObject({ exchange: '', routingKey: queue, redelivered: false, messageCount: 0 });
    expect(got.text).toBe('by name');
  });

  it('direct routes to every queue bound with exactly that key', async () => {
    const channel = await broker.channel();
    const exchange = await channel.exchange(broker.fresh('x'), 'direct');
    const one = await boundQueue(channel, exchange, 'a');
    const two = await boundQueue(channel, exchange, 'a');
    const other = await boundQueue(channel, exchange, 'a.b');
    const empty = await boundQueue(channel, exchange, '');
    await channel.put(exchange, 'a', 'to a');
    await channel.put(exchange, '', 'to empty');
    expect(await channel.drain(one)).toEqual(['to a']);
    expect(await channel.drain(two)).toEqual(['to a']);
    expect(await channel.drain(other)).toEqual([]);
    expect(await channel.drain(empty)).toEqual(['to empty']);
  });

  it('fanout routes to every queue whatever the keys, once each', async () => {
    const channel = await broker.channel();
    const exchange = await channel.exchange(broker.fresh('x'), 'fanout');
    const one = await boundQueue(channel, exchange, 'a');
    await channel.bind(one, exchange, 'b');
    const two = await boundQueue(channel, exchange);
    await channel.put(exchange, 'c', 'to all');
    expect(await channel.drain(one)).toEqual(['to all']);
    expect(await channel.drain(two)).toEqual(['to all']);
  });

  it.each([
    ['a.b.c', ['a.b.c'], ['a.b', 'a.b.c.d', 'a.b.', '']],
    ['a.*.c', ['a.b.c', 'a..c'], ['a.c', 'a.b.b.c', 'b.a.c']],
    ['*', ['a'], ['', 'a.b', '.']],
    ['#', ['', 'a', 'a.b', '...', 'a.b.c'], []],
    ['a.#', ['a', 'a.b', 'a.b.c', 'a.'], ['b', 'b.a', '']],
    ['#.z', ['z', 'a.z', 'a.b.z', 'z.z'], ['z.a', 'zz']],
    ['a.#.z', ['a.z', 'a.b.z', 'a.b.c.z', 'a.z.z'], ['a', 'z', 'a.z.b']],
    ['#.b.#', ['b', 'a.b', 'b.c', 'a.b.c', 'a.a.b.c.c'], ['', 'a.c', 'ab']],
    ['*.#', ['a', 'a.b'], ['']],
    ['#.*.#', ['a', 'a.b.c'], []],
    ['*.*', ['a.b', '.'], ['a', 'a.b.c']],
    ['a*', ['a*'], ['ab', 'a']],
    ['', [''], ['a', '.']],
  ])("topic binding '%s' matches %j and not %j", async (pattern, matching, others) => {
    const channel = await broker.channel();
    const exchange = await channel.exchange(broker.fresh('x'), 'topic');
    const queue = await boundQueue(channel, exchange, pattern);
    for (const key of [...matching, ...others]) await channel.put(exchange, key, `<${key}>`);
    expect(await channel.drain(queue)).toEqual(matching.map((key) => `<${key}>`));
  });

  it('topic routes once to a queue that several bindings match', async () => {
    const channel = await broker.channel();
    const exchange = await channel.exchange(broker.fresh('x'), 'topic');
    const queue = await boundQueue(channel, exchange, 'a.#');
    await channel.bind(queue, exchange, '#.b');
    await channel.bind(queue, exchange, 'a.b');
    await channel.put(exchange, 'a.b', 'once');
    expect(await channel.drain(queue)).toEqual(['once']);
    await channel.call('queue.unbind', { queue, exchange, routingKey: 'a.#' });
    await channel.put(exchange, 'a.c', 'no more');
    await channel.put(exchange, 'c.b', 'still');
    expect(await channel.drain(queue)).toEqual(['still']);
  });
});

describe('predeclared exchanges', () => {
  it.each([
    ['amq.direct', 'key', {}],
    ['amq.fanout', '', {}],
    ['amq.topic', '*.topic', {}],
    ['amq.headers', '', { 'x-match': 'any', mine: 1 }],
    ['amq.match', '', { mine: 1 }],
  ])('%s routes', async (exchange, bindingKey, args) => {
    const channel = await broker.channel();
    const queue = await boundQueue(channel, exchange, bindingKey, args);
    const key = bindingKey.replace('*', 'a');
    await channel.put(exchange, key, 'hit', { headers: { mine: 1 } });
    await channel.call('queue.unbind', { queue, exchange, routingKey: bindingKey, arguments: args });
    await channel.put(exchange, key, 'missed', { headers: { mine: 1 } });
    expect(await channel.drain(queue)).toEqual(['hit']);
  });
});

describe('headers exchange', () => {
  const matches: [string, Table, Table | undefined, boolean][] = [
    ['all by default', { a: 1, b: 'x' }, { a: 1, b: 'x', c: true }, true],
    ['all by default, one missing', { a: 1, b: 'x' }, { a: 1 }, false],
    ['all', { 'x-match': 'all', a: 1, b: 'x' }, { a: 1, b: 'x' }, true],
    ['all, another value', { 'x-match': 'all', a: 1 }, { a: 2 }, false],
    ['any', { 'x-match': 'any', a: 1, b: 2 }, { b: 2, c: 3 }, true],
    ['any, none equal', { 'x-match': 'any', a: 1, b: 2 }, { a: 2, b: 1 }, false],
    ['all, x- headers do not count', { 'x-match': 'all', a: 1, 'x-b': 2 }, { a: 1 }, true],
    ['any, x- headers do not count', { 'x-match': 'any', a: 1, 'x-b': 2 }, { 'x-b': 2 }, false],
    ['all-with-x', { 'x-match': 'all-with-x', a: 1, 'x-b': 2 }, { a: 1, 'x-b': 2 }, true],
    ['all-with-x, x- header missing', { 'x-match': 'all-with-x', a: 1, 'x-b': 2 }, { a: 1 }, false],
    ['any-with-x', { 'x-match': 'any-with-x', a: 1, 'x-b': 2 }, { 'x-b': 2 }, true],
    ['any-with-x, none equal', { 'x-match': 'any-with-x', a: 1, 'x-b': 2 }, { 'x-b': 3 }, false],
    ['a void value asks only for presence', { a: null }, { a: 'whatever' }, true],
    ['a void value, absent', { a: null }, { b: 1 }, false],
    ['all of nothing', {}, { a: 1 }, true],
    ['all of nothing, no headers', {}, undefined, true],
    ['any of nothing', { 'x-match': 'any' }, { a: 1 }, false],
    ['no headers at all', { a: 1 }, undefined, false],
    ['integers of another width', { a: 5n }, { a: 5 }, true],
    ['number and string', { a: 5 }, { a: '5' }, false],
    ['booleans', { a: true }, { a: true }, true],
    ['case of names matters', { A: 1 }, { a: 1 }, false],
  ];

  it.each(matches)('%s', async (_title, binding, headers, expected) => {
    const channel = await broker.channel();
    const exchange = await channel.exchange(broker.fresh('x'), 'headers');
    const queue = await boundQueue(channel, exchange, 'ignored', binding);
    const properties: Properties = headers === undefined ? {} : { headers };
    await channel.put(exchange, 'any key', 'hit', properties);
    expect(await channel.drain(queue)).toEqual(expected ? ['hit'] : []);
  });

  it('an x-match that nobody knows is 406', async () => {
    const channel = await broker.channel();
    const exchange = await channel.exchange(broker.fresh('x'), 'headers');
    const queue = await channel.queue(broker.fresh('q'));
    const refusal = await channel.refused('queue.bind', { queue, exchange, arguments: { 'x-match': 'some' } });
    expect(refusal).toMatchObject({ scope: 'channel', code: 406, method: 'queue.bind' });
    expect(refusal.text).toMatch(/^PRECONDITION_FAILED - Invalid x-match field value <?<?"some">?>?; expected all/);
  });
});

describe('exchange to exchange', () => {
  it('a message goes on through bound exchanges with its own key and name of origin', async () => {
    const channel = await broker.channel();
    const source = await channel.exchange(broker.fresh('x'), 'topic');
    const destination = await channel.exchange(broker.fresh('x'), 'direct');
    await channel.call('exchange.bind', { source, destination, routingKey: 'a.#' });
    const queue = await boundQueue(channel, destination, 'a.b');
    await channel.put(source, 'a.b', 'through');
    await channel.put(source, 'a.c', 'no queue');
    await channel.put(source, 'b', 'no binding');
    const got = await channel.mustGet(queue);
    expect(got.args).toMatchObject({ exchange: source, routingKey: 'a.b', messageCount: 0 });
    await channel.call('exchange.unbind', { source, destination, routingKey: 'a.#' });
    await channel.put(source, 'a.b', 'not any more');
    expect(await channel.ready(queue)).toBe(0);
  });

  it('a queue that is reached on two ways gets the message once', async () => {
    const channel = await broker.channel();
    const top = await channel.exchange(broker.fresh('x'), 'fanout');
    const left = await channel.exchange(broker.fresh('x'), 'fanout');
    const right = await channel.exchange(broker.fresh('x'), 'fanout');
    await channel.call('exchange.bind', { source: top, destination: left });
    await channel.call('exchange.bind', { source: top, destination: right });
    const queue = await boundQueue(channel, left);
    await channel.bind(queue, right);
    await channel.bind(queue, top);
    await channel.put(top, '', 'once');
    expect(await channel.drain(queue)).toEqual(['once']);
  });

  it('cycles end', async () => {
    const channel = await broker.channel();
    const one = await channel.exchange(broker.fresh('x'), 'fanout');
    const two = await channel.exchange(broker.fresh('x'), 'fanout');
    await channel.call('exchange.bind', { source: one, destination: two });
    await channel.call('exchange.bind', { source: two, destination: one });
    await channel.call('exchange.bind', { source: one, destination: one });
    const queue = await boundQueue(channel, two);
    await channel.put(one, '', 'from one');
    await channel.put(two, '', 'from two');
    expect(await channel.drain(queue)).toEqual(['from one', 'from two']);
  });

  it('an internal exchange can be bound to but not published to', async () => {
    const channel = await broker.channel();
    const source = await channel.exchange(broker.fresh('x'), 'fanout');
    const hidden = await channel.exchange(broker.fresh('x'), 'fanout', {}, { internal: true });
    await channel.call('exchange.bind', { source, destination: hidden });
    const queue = await boundQueue(channel, hidden);
    await channel.put(source, '', 'through');
    expect(await channel.drain(queue)).toEqual(['through']);
    channel.publish(hidden, '', 'directly');
    expect(await channel.closed()).toEqual(
      closesChannel(
        403,
        `ACCESS_REFUSED - cannot publish to internal exchange '${hidden}' ${broker.here}`,
        'basic.publish',
      ),
    );
  });
});

describe('alternate exchange', () => {
  it('takes what nobody else wanted, and only that', async () => {
    const channel = await broker.channel();
    const alternate = await channel.exchange(broker.fresh('x'), 'fanout');
    const exchange = await channel.exchange(broker.fresh('x'), 'direct', { 'alternate-exchange': alternate });
    const wanted = await boundQueue(channel, exchange, 'k');
    const rest = await boundQueue(channel, alternate);
    await channel.put(exchange, 'k', 'wanted');
    await channel.put(exchange, 'other', 'unwanted');
    expect(await channel.drain(wanted)).toEqual(['wanted']);
    const got = await channel.mustGet(rest);
    expect([got.text, got.args.exchange, got.args.routingKey]).toEqual(['unwanted', exchange, 'other']);
    expect(await channel.ready(rest)).toBe(0);
  });

  it('may be missing, may have an alternate of its own, may lead back', async () => {
    const channel = await broker.channel();
    const [first, second, third] = [broker.fresh('x'), broker.fresh('x'), broker.fresh('x')];
    await channel.exchange(first, 'direct', { 'alternate-exchange': second });
    await channel.put(first, 'k', 'into the void');
    await channel.exchange(second, 'direct', { 'alternate-exchange': third });
    await channel.exchange(third, 'direct', { 'alternate-exchange': first });
    const queue = await boundQueue(channel, third, 'k');
    await channel.put(first, 'k', 'through two');
    await channel.put(first, 'nobody', 'round and round');
    expect(await channel.drain(queue)).toEqual(['through two']);
  });

  it('is not asked when a CC key found a queue', async () => {
    const channel = await broker.channel();
    const alternate = await channel.exchange(broker.fresh('x'), 'fanout');
    const exchange = await channel.exchange(broker.fresh('x'), 'direct', { 'alternate-exchange': alternate });
    const [copied, rest] = [await boundQueue(channel, exchange, 'copy'), await boundQueue(channel, alternate)];
    await channel.put(exchange, 'nobody', 'by copy', { headers: { CC: ['copy'] } });
    await channel.put(exchange, 'nobody', 'by nobody', { headers: { CC: ['nobody either'] } });
    expect(await channel.drain(copied)).toEqual(['by copy']);
    expect(await channel.drain(rest)).toEqual(['by nobody']);
  });

  it('works for an exchange that is reached through another', async () => {
    const channel = await broker.channel();
    const alternate = await channel.exchange(broker.fresh('x'), 'fanout');
    const middle = await channel.exchange(broker.fresh('x'), 'direct', { 'alternate-exchange': alternate });
    const source = await channel.exchange(broker.fresh('x'), 'fanout');
    await channel.call('exchange.bind', { source, destination: middle });
    const rest = await boundQueue(channel, alternate);
    await channel.put(source, 'nobody', 'unwanted');
    expect(await channel.drain(rest)).toEqual(['unwanted']);
  });

  it('makes a mandatory message routable', async () => {
    const channel = await broker.channel();
    const alternate = await channel.exchange(broker.fresh('x'), 'fanout');
    const exchange = await channel.exchange(broker.fresh('x'), 'direct', { 'alternate-exchange': alternate });
    const queue = await boundQueue(channel, alternate);
    await channel.call('confirm.select');
    channel.publish(exchange, 'k', 'caught', {}, { mandatory: true });
    expect((await channel.next()).name).toBe('basic.ack');
    expect(await channel.drain(queue)).toEqual(['caught']);
  });
});

describe('CC and BCC', () => {
  it('route as if the message had been published with each key; BCC is taken out', async () => {
    const channel = await broker.channel();
    const exchange = await channel.exchange(broker.fresh('x'), 'direct');
    const queues = [];
    for (const key of ['key', 'cc', 'bcc']) queues.push(await boundQueue(channel, exchange, key));
    await channel.put(exchange, 'key', 'to three', { headers: { CC: ['cc'], BCC: ['bcc'], mine: 1 } });
    for (const queue of queues) {
      const got = await channel.mustGet(queue, true);
      expect(got.headers).toEqual({ CC: ['cc'], mine: 1 });
      expect(got.args).toMatchObject({ exchange, routingKey: 'key' });
    }
  });

  it('work on the default exchange and on topic exchanges, one copy a queue', async () => {
    const channel = await broker.channel();
    const one = await channel.queue(broker.fresh('q'));
    const two = await channel.queue(broker.fresh('q'));
    await channel.put('', one, 'both', { headers: { CC: [two, one], BCC: [two] } });
    expect(await channel.drain(one)).toEqual(['both']);
    expect(await channel.drain(two)).toEqual(['both']);
    const topic = await channel.exchange(broker.fresh('x'), 'topic');
    await channel.bind(one, topic, '*.cc');
    await channel.put(topic, 'nobody', 'by copy', { headers: { CC: ['a.cc'] } });
    expect(await channel.drain(one)).toEqual(['by copy']);
  });

  it.each(['CC', 'BCC'])('%s that is no array is 406', async (name) => {
    const channel = await broker.channel();
    channel.publish('amq.direct', 'k', '', { headers: { [name]: 'a string' } });
    const refusal = await channel.closed();
    expect(refusal).toMatchObject({ scope: 'channel', code: 406, method: 'basic.publish' });
    expect(refusal.text).toMatch(/^PRECONDITION_FAILED - invalid message: .*unacceptable_type_in_header/);
  });
});
