/** What one peer does must not harm the others: sizes, numbers and throws that once blocked, grew or stopped the broker. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { FieldTable } from '../../broker/fields.ts';
import { createMessage, Message, type PropertiesCodec } from '../../broker/message.ts';
import type { Channel } from '../../broker/port.ts';
import { REPLY_BYTES_KEPT_MAX, REPLY_TO } from '../../broker/routing/reply-consumers.ts';
import { type Core, header, publish, send, startCore } from '../support/core.ts';

let core: Core;
let channel: Channel;

beforeEach(async () => {
  core = await startCore();
  channel = core.channel();
});

afterEach(async () => {
  await core.broker.close();
});

async function declare(queue: string, args: FieldTable = {}): Promise<void> {
  await channel.declareQueue({ queue, arguments: args });
}

describe('numbers', () => {
  it('a channel with 130,000 settlements in an open transaction closes and gives them all back', async () => {
    await declare('q');
    for (let index = 0; index < 130_000; index++) send(channel, 'q', '');
    const consumer = core.channel();
    await consumer.txSelect();
    await core.consume(consumer, 'q');
    consumer.ack(0, true);
    consumer.close();
    expect((await core.queue('q'))?.messagesReady).toBe(130_000);
  });

  it('of thousands of single active consumers of one connection none succeeds another as it closes', async () => {
    await declare('q', { 'x-single-active-consumer': true });
    const peer = await core.broker.connect();
    const consumers = peer.openChannel();
    for (let index = 0; index < 20_000; index++) await consumers.consume({ queue: 'q' }, { onDeliver() {} });
    core.clock.turn();
    const last = await core.consume(channel, 'q');
    await peer.close();
    send(channel, 'q', 'for who is left');
    expect(last.bodies).toEqual(['for who is left']);
  });

  it('dead letters that multiply leave turns to others, and end', async () => {
    await channel.declareExchange({ exchange: 'dlx', type: 'fanout' });
    const names = ['a', 'b', 'c', 'd', 'e', 'f'];
    for (const name of names) {
      await declare(name, { 'x-max-length': 0, 'x-dead-letter-exchange': 'dlx' });
      await channel.bind({ source: 'dlx', destination: name, destinationKind: 'queue', bindingKey: '' });
    }
    await declare('end');
    await channel.bind({ source: 'dlx', destination: 'end', destinationKind: 'queue', bindingKey: '' });
    send(channel, 'a', 'x');
    const first = (await core.queue('end'))?.messagesReady ?? 0;
    core.clock.turn();
    // Every way through the other five queues that visits none twice: 1 + 5 + 5*4 + 5*4*3 + 5*4*3*2 + 5*4*3*2*1.
    expect((await core.queue('end'))?.messagesReady).toBe(326);
    expect(first).toBeLessThan(326);
  });

  it('a dead letter that multiplies does not keep the others of its virtual host waiting', async () => {
    await channel.declareExchange({ exchange: 'dlx', type: 'fanout' });
    for (let index = 0; index < 9; index++) {
      await declare(`q${index}`, { 'x-max-length': 0, 'x-dead-letter-exchange': 'dlx' });
      await channel.bind({ source: 'dlx', destination: `q${index}`, destinationKind: 'queue', bindingKey: '' });
    }
    await declare('dead');
    await declare('ordinary', { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead' });
    const turns: (() => void)[] = [];
    vi.spyOn(core.clock, 'defer').mockImplementation((task) => void turns.push(task));
    send(channel, 'q0', 'x');
    send(channel, 'ordinary', 'y');
    channel.reject((await channel.get('ordinary'))?.deliveryTag ?? 0);
    turns.shift()?.();
    turns.shift()?.();
    expect((await core.queue('dead'))?.messagesReady).toBe(1);
    expect(turns).toHaveLength(1);
  });

  it('replies to a requester who does not read are kept up to a limit, in order, and the rest is unroutable', async () => {
    const returned: Message[] = [];
    const requester = core.channel();
    const inbox = await core.consume(requester, REPLY_TO, { noAck: true });
    const responder = core.channel({ onReturn: (message) => returned.push(message) });
    await declare('requests');
    requester.publish(createMessage({ routingKey: 'requests', properties: { replyTo: REPLY_TO } }));
    const request = await responder.get('requests', { noAck: true });
    const address = request?.message.properties.replyTo ?? '';
    requester.pause();
    const body = new Uint8Array(1024 * 1024);
    for (let index = 0; index < 20; index++) responder.publish(createMessage({ routingKey: address, body }), true);
    const kept = Math.floor(REPLY_BYTES_KEPT_MAX / (body.length + 256));
    expect(returned).toHaveLength(20 - kept);
    expect(inbox.delivered).toHaveLength(0);
    requester.resume();
    expect(inbox.delivered).toHaveLength(kept);
  });

  it('a message that stays does not hold the chunk that it came in, nor does one that stays unacked for long', async () => {
    const codec: PropertiesCodec = {
      name: 'test',
      decode: () => ({}),
      encode: () => new Uint8Array(0),
      rewrite: (b) => b,
    };
    const chunk = new Uint8Array(65_536).fill(7);
    const window = (key: string): Message => new Message('', key, chunk, 100, 102, 110, 126, codec, 0);
    await declare('kept');
    channel.publish(window('kept'));
    const kept = await channel.get('kept');
    expect(kept?.message.content.length).toBeLessThanOrEqual(4096);
    expect(kept?.message.body).toEqual(chunk.subarray(110, 126));
    await declare('slow');
    const consumer = core.channel();
    const inbox = await core.consume(consumer, 'slow');
    for (let index = 0; index < 100; index++) channel.publish(window('slow'));
    for (const { tag } of inbox.delivered.slice(1)) consumer.ack(tag);
    for (let index = 0; index < 100; index++) {
      channel.publish(window('slow'));
      consumer.ack(101 + index);
    }
    consumer.close();
    const first = await channel.get('slow');
    expect(first?.message.content.length).toBeLessThanOrEqual(4096);
  });
});

describe('a closing connection', () => {
  it('walks no message through its own other channels', async () => {
    await declare('q', { 'x-delivery-limit': 3 });
    const peer = await core.broker.connect();
    for (let index = 0; index < 20; index++) await peer.openChannel().consume({ queue: 'q' }, { onDeliver() {} });
    core.clock.turn();
    for (let index = 0; index < 10; index++) send(channel, 'q', String(index));
    await peer.close();
    const messages = await core.drain('q');
    expect(messages.map((message) => header(message, 'x-delivery-count'))).toEqual(Array(10).fill(1n));
  });
});

describe('what a program throws', () => {
  let thrown: unknown[];

  beforeEach(() => {
    thrown = [];
    vi.stubGlobal('queueMicrotask', (task: () => void) => {
      try {
        task();
      } catch (error) {
        thrown.push(error);
      }
    });
  });

  afterEach(() => {
    vi.unstubAllGlobals();
  });

  const fault = new Error('a defect of the program');
  const fail = (): never => {
    throw fault;
  };

  it('from an observer stops no delivery', async () => {
    await declare('q');
    const inbox = await core.consume(channel, 'q', { noAck: true });
    const end = core.broker.observe((event) => event.type === 'delivered' && fail());
    send(channel, 'q', 'one');
    end();
    send(channel, 'q', 'two');
    expect(inbox.bodies).toEqual(['one', 'two']);
    expect(thrown).toEqual([fault]);
  });

  it('from a cancel, a return or a confirm stops nothing either', async () => {
    await declare('q');
    const other = core.channel({ onReturn: fail, onConfirm: fail });
    await other.consume({ queue: 'q' }, { onDeliver() {}, onCancel: fail });
    const inbox = await core.consume(core.channel(), 'q');
    expect(await channel.deleteQueue('q')).toBe(0);
    expect(inbox.cancelled).toHaveLength(1);
    await other.confirmSelect();
    other.publish(createMessage({ routingKey: 'nowhere' }), true);
    expect(thrown).toEqual([fault, fault, fault]);
  });

  it('from the end of a connection does not keep the others open', async () => {
    const ended: string[] = [];
    await core.broker.connect(undefined, '/', { onClose: fail });
    await core.broker.connect(undefined, '/', { onClose: () => ended.push('second') });
    await core.broker.close();
    expect(ended).toEqual(['second']);
    expect(thrown).toEqual([fault]);
  });
});

describe('rights', () => {
  it('B18: topic permissions are asked for CC and BCC too', async () => {
    const { administration } = core.broker;
    await administration.putUser({ name: 'u', password: 'p' });
    await administration.setPermission({ vhost: '/', user: 'u', configure: '', write: '.*', read: '' });
    await administration.setTopicPermission({
      vhost: '/',
      user: 'u',
      exchange: 'amq.topic',
      write: '^mine$',
      read: '',
    });
    const principal = await core.broker.authenticate({ username: 'u', password: 'p', loopback: true });
    for (const name of ['CC', 'BCC']) {
      const writer = (await core.broker.connect(principal)).openChannel();
      publish(writer, 'amq.topic', 'mine');
      expect(() => publish(writer, 'amq.topic', 'mine', '', { headers: { [name]: ['mine', 'yours'] } })).toThrow(
        "write access to topic 'yours' in exchange 'amq.topic' in vhost '/' refused for user 'u'",
      );
    }
  });

  it('B7: a prefix makes no reserved name', async () => {
    const declared = channel.declareQueue({ queue: '', arguments: { 'x-name-prefix': 'amq.rabbitmq.reply-to.' } });
    await expect(declared).rejects.toThrow("contains reserved prefix 'amq.*'");
  });
});
