/** Peers that take too long, too much or too little, and where they may come from. */
import { describe, expect } from 'vitest';
import { AddressRanges } from '../../gateways/addresses.ts';
import { onlyWarren, useBroker } from '../support/broker-under-test.ts';
import { eventually } from '../support/eventually.ts';
import { PROTOCOL_HEADER } from '../support/raw-amqp.ts';
import { closesChannel } from '../support/raw-channel.ts';

const it = onlyWarren('it needs a broker with settings of its own');

describe('B5: a configured message size', () => {
  const broker = useBroker({ broker: { bodyBytesMax: 1000 }, amqp: { bodyBytesMax: 1000 } });

  it('B5: a message above it is 406, one that fits is taken', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    expect(await channel.put('', queue, Buffer.alloc(1000))).toBe(true);
    channel.publish('', queue, Buffer.alloc(1001));
    expect(await channel.closed()).toEqual(
      closesChannel(
        406,
        'PRECONDITION_FAILED - message size 1001 is larger than configured max size 1000',
        'basic.publish',
      ),
    );
  });

  it('B5: the frames of a refused message are not taken for others', async () => {
    const connection = await broker.connect({ frameMax: 4096 });
    const channel = await connection.openChannel(1);
    channel.publish('amq.fanout', '', Buffer.alloc(50_000));
    channel.publish('amq.fanout', '', 'dropped');
    expect(await channel.closed()).toMatchObject({ scope: 'channel', code: 406 });
    expect(await (await connection.openChannel(1)).call('basic.qos')).toEqual({});
  });
});

describe('B3: peers in no hurry', () => {
  const broker = useBroker({ amqp: { handshakeTimeoutMs: 100 } });

  it('B3: a handshake that does not end is ended', async () => {
    const silent = await broker.dial();
    const slow = await broker.dial();
    slow.write(PROTOCOL_HEADER);
    await slow.control.expect('connection.start');
    const almost = await broker.dial();
    await almost.login();
    await Promise.all([silent.untilEnded(), slow.untilEnded(), almost.untilEnded()]);
    expect(silent.protocolHeader).toBeUndefined();
  });

  it('B3: whoever has come in stays', async () => {
    const connection = await broker.connect();
    const silent = await broker.dial();
    await silent.untilEnded();
    await connection.openChannel();
  });
});

describe('B2: announcing another product', () => {
  const broker = useBroker({ amqp: { announcedProduct: { product: 'RabbitMQ', version: '3.13.7' } } });

  it('B2: for clients that switch on the name, it may be set', async () => {
    const { start } = await (await broker.dial()).handshake();
    expect(start.serverProperties).toMatchObject({ product: 'RabbitMQ', version: '3.13.7' });
  });
});

describe('B3: loopback users', () => {
  const broker = useBroker({
    amqp: { proxyProtocolSources: new AddressRanges(['127.0.0.1']), loginRefusalDelayMs: 30 },
  });
  const capabilities = { authentication_failure_close: true };

  it('B3: guest may not come from elsewhere, and is told the cure', async () => {
    const connection = await broker.dial();
    connection.write(Buffer.from('PROXY TCP4 192.0.2.1 192.0.2.2 40000 5672\r\n'));
    await connection.login({ capabilities });
    const refusal = await connection.control.closed();
    expect(refusal).toMatchObject({ scope: 'connection', code: 403 });
    expect(refusal.text).toMatch(/^ACCESS_REFUSED - .*can only connect via localhost.*RABBITMQ_DEFAULT_USER/);
  });

  it('B3: other users may', async () => {
    await broker.administration.putUser({ name: 'traveller', password: 'secret' });
    const permission = { vhost: '/', user: 'traveller', configure: '', write: '', read: '' };
    await broker.administration.setPermission(permission);
    const connection = await broker.dial();
    connection.write(Buffer.from('PROXY TCP4 192.0.2.1 192.0.2.2 40000 5672\r\n'));
    await connection.handshake({ username: 'traveller', password: 'secret' });
    const [view] = await broker.embedded.administration.connections();
    expect(view).toMatchObject({ username: 'traveller', name: '192.0.2.1:40000 -> 192.0.2.2:5672' });
  });
});

describe('B15: peers that do not read', () => {
  const broker = useBroker();

  it('B15: the rest stays in the queue for others, and comes in order when it reads again', async () => {
    const consumer = await broker.connect();
    const channel = await consumer.openChannel();
    const queue = await channel.queue(broker.fresh('q'));
    await channel.consume(queue, { noAck: true });
    consumer.setReading(false);
    const publisher = await broker.channel();
    const padding = Buffer.alloc(32_768, 'x');
    const count = 1000;
    await publisher.call('confirm.select');
    for (let i = 0; i < count; i++) publisher.publish('', queue, padding, { messageId: String(i) });
    await publisher.confirms(count);
    await eventually(async () => expect(await publisher.ready(queue)).toBeGreaterThan(0));
    consumer.setReading(true);
    for (let i = 0; i < count; i++) expect((await channel.delivery()).properties.messageId).toBe(String(i));
    expect(await publisher.ready(queue)).toBe(0);
  });
});
