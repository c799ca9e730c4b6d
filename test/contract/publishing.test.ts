/** Publishing: what is refused (B5), what passes through unchanged, what comes back. */
import { describe, expect, it } from 'vitest';
import { encodeProperties, type Properties, typed } from '../support/amqp-wire.ts';
import { itAdministered, onlyWarren, useBroker } from '../support/broker-under-test.ts';
import { closesChannel } from '../support/raw-channel.ts';
import { frame, headerFrame, methodFrame } from '../support/raw-frames.ts';

const broker = useBroker();

describe('B5: refused messages', () => {
  it('B5: to a missing exchange: 404, class 60, method 40', async () => {
    const channel = await broker.channel();
    channel.publish('nowhere', 'k', 'lost');
    channel.publish('nowhere', 'k', 'lost too');
    expect(await channel.closed()).toEqual(
      closesChannel(404, `NOT_FOUND - no exchange 'nowhere' ${broker.here}`, 'basic.publish'),
    );
  });

  it('B5: to an internal exchange: 403', async () => {
    const channel = await broker.channel();
    const exchange = await channel.exchange(broker.fresh('x'), 'fanout', {}, { internal: true });
    channel.publish(exchange, 'k', 'lost');
    expect(await channel.closed()).toEqual(
      closesChannel(
        403,
        `ACCESS_REFUSED - cannot publish to internal exchange '${exchange}' ${broker.here}`,
        'basic.publish',
      ),
    );
  });

  it.each(['soon', '-1', '1.5', '', ' 1', '10s', '1e3'])("B5: with the expiration '%s': 406", async (expiration) => {
    const channel = await broker.channel();
    channel.publish('', 'k', 'lost', { expiration });
    const refusal = await channel.closed();
    expect(refusal).toMatchObject({ scope: 'channel', code: 406, method: 'basic.publish' });
    expect(refusal.text).toMatch(new RegExp(`^PRECONDITION_FAILED - invalid expiration '${expiration}': .`));
  });

  it("B5: in somebody else's name: 406", async () => {
    const channel = await broker.channel();
    channel.publish('amq.fanout', '', 'mine', { userId: 'guest' });
    channel.publish('amq.fanout', '', 'not mine', { userId: 'somebody' });
    expect(await channel.closed()).toEqual(
      closesChannel(
        406,
        "PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated user was 'guest'",
        'basic.publish',
      ),
    );
  });

  itAdministered("B5: an impersonator may publish in anybody's name", async () => {
    const { administration, vhost } = broker;
    await administration.putUser({ name: 'actor', password: 'secret', tags: ['impersonator'] });
    await administration.setPermission({ vhost, user: 'actor', configure: '.*', write: '.*', read: '.*' });
    try {
      const channel = await broker.channel({ username: 'actor', password: 'secret' });
      const queue = await channel.queue(broker.fresh('q'));
      await channel.put('', queue, 'as somebody', { userId: 'somebody' });
      expect((await channel.mustGet(queue)).properties.userId).toBe('somebody');
    } finally {
      await administration.deleteUser('actor');
    }
  });

  onlyWarren('RabbitMQ waits for the whole body')(
    'B5: an announced size above the limit is refused at the header: 406',
    async () => {
      const channel = await broker.channel();
      for (const size of [134_217_729n, 2n ** 63n, 2n ** 64n - 1n]) {
        const connection = await broker.connect();
        const other = await connection.openChannel(1);
        connection.write(methodFrame(1, 'basic.publish', { exchange: 'amq.fanout' }));
        connection.write(headerFrame(1, size));
        connection.write(frame(3, 1, Buffer.alloc(100)));
        expect(await other.closed()).toEqual(
          closesChannel(
            406,
            `PRECONDITION_FAILED - message size ${size} is larger than max size 134217728`,
            'basic.publish',
          ),
        );
        await connection.openChannel(1);
      }
      expect(await channel.call('basic.qos')).toEqual({});
    },
  );
});

describe('what passes through', () => {
  const everyProperty: Properties = {
    contentType: 'text/plain; charset=utf-8',
    contentEncoding: 'gzip',
    headers: { plain: 'value', number: 5 },
    deliveryMode: 2,
    priority: 9,
    correlationId: 'correlation',
    replyTo: 'reply queue',
    expiration: '60000',
    messageId: 'id-1',
    timestamp: 1_700_000_000,
    type: 'greeting',
    userId: 'guest',
    appId: 'tests',
    clusterId: 'obsolete',
  };

  it('every property, and its octets', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    channel.publish('', queue, 'hello', everyProperty);
    const got = await channel.mustGet(queue);
    expect(got.properties).toEqual(everyProperty);
    expect(got.content?.propertyBytes).toEqual(encodeProperties(everyProperty));
  });

  it('each property alone, and none', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    const singles = Object.entries(everyProperty).map(([name, value]) => ({ [name]: value }));
    await channel.consume(queue, { noAck: true });
    for (const properties of [...singles, {}]) {
      channel.publish('', queue, 'x', properties);
      expect((await channel.delivery()).properties).toEqual(properties);
    }
  });

  it('headers of every field type, to the octet', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    const headers = {
      t: true,
      b: typed('b', -5),
      B: typed('B', 200),
      s: typed('s', -300),
      u: typed('u', 40_000),
      I: -70_000,
      i: typed('i', 3_000_000_000),
      l: -(2n ** 62n),
      f: typed('f', 0.5),
      d: 0.1,
      D: typed('D', { scale: 2, unscaled: 314 }),
      S: 'längere Zeichenkette ✓',
      x: Buffer.from([0, 1, 2, 255]),
      T: new Date(1_700_000_000_000),
      V: null,
      A: [1, 'two', [true, null], { three: 3 }],
      F: { nested: { deeper: { deepest: [] } } },
      '': 'an empty name',
      ['k'.repeat(255)]: 'a long name',
    };
    channel.publish('', queue, '', { headers });
    expect((await channel.mustGet(queue)).content?.propertyBytes).toEqual(encodeProperties({ headers }));
  });

  it.each([0, 1, 131_064, 131_065, 300_000])('a body of %d octets', async (size) => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    const body = Buffer.from(Array.from({ length: size }, (_, index) => index % 251));
    channel.publish('', queue, body);
    await channel.consume(queue, { noAck: true });
    expect((await channel.delivery()).content?.body.equals(body)).toBe(true);
  });

  it('a body in frames of any size, and octet by octet', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    const octets = Buffer.concat([
      methodFrame(1, 'basic.publish', { routingKey: queue }),
      headerFrame(1, 6),
      frame(3, 1, Buffer.from('a')),
      frame(3, 1, Buffer.from('bcd')),
      frame(3, 1, Buffer.from('ef')),
    ]);
    for (const octet of octets) channel.connection.write(Buffer.from([octet]));
    expect((await channel.mustGet(queue)).text).toBe('abcdef');
  });

  it('contents of two channels, interleaved frame by frame', async () => {
    const connection = await broker.connect();
    const [one, two] = [await connection.openChannel(1), await connection.openChannel(2)];
    const queue = await one.queue(broker.fresh('q'));
    connection.write(
      Buffer.concat([
        methodFrame(1, 'basic.publish', { routingKey: queue }),
        methodFrame(2, 'basic.publish', { routingKey: queue }),
        headerFrame(2, 6),
        headerFrame(1, 6),
        frame(3, 1, Buffer.from('one')),
        frame(3, 2, Buffer.from('two')),
        frame(3, 2, Buffer.from('two')),
        frame(3, 1, Buffer.from('one')),
      ]),
    );
    await one.consume(queue, { noAck: true });
    expect((await one.deliveries(2)).toSorted()).toEqual(['oneone', 'twotwo']);
    expect(await two.call('basic.qos')).toEqual({});
  });

  it('messages of one channel keep their order', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    const bodies = Array.from({ length: 1000 }, (_, index) => String(index));
    for (const body of bodies) channel.publish('', queue, body);
    await channel.consume(queue, { noAck: true });
    expect(await channel.deliveries(1000)).toEqual(bodies);
  });
});

describe('B5: mandatory', () => {
  it('B5: what no queue wants comes back: 312, with its content', async () => {
    const channel = await broker.channel();
    const properties: Properties = { contentType: 'text/plain', headers: { mine: 1 }, messageId: 'm' };
    channel.publish('amq.direct', 'nobody wants this', 'back again', properties, { mandatory: true });
    const returned = await channel.next();
    expect(returned.name).toBe('basic.return');
    expect(returned.args).toEqual({
      replyCode: 312,
      replyText: 'NO_ROUTE',
      exchange: 'amq.direct',
      routingKey: 'nobody wants this',
    });
    expect(returned.properties).toEqual(properties);
    expect(returned.text).toBe('back again');
  });

  it('B5: also from the default exchange; what is not mandatory is dropped', async () => {
    const channel = await broker.channel();
    channel.publish('', 'no such queue', 'dropped');
    channel.publish('', 'no such queue', 'returned', {}, { mandatory: true });
    const returned = await channel.next();
    expect([returned.name, returned.args.exchange, returned.text]).toEqual(['basic.return', '', 'returned']);
    expect(await channel.call('basic.qos')).toEqual({});
    expect(channel.pending).toEqual([]);
  });

  it('B5: what a queue takes does not come back', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    channel.publish('', queue, 'taken', {}, { mandatory: true });
    expect((await channel.mustGet(queue)).text).toBe('taken');
    expect(channel.pending).toEqual([]);
  });
});
