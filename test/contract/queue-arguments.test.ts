/** Arguments of queues: what is equivalent, what is refused and in which words. */
import { describe, expect, it } from 'vitest';
import { typed } from '../support/amqp-wire.ts';
import { onlyWarren, useBroker } from '../support/broker-under-test.ts';
import { closesChannel } from '../support/raw-channel.ts';

const broker = useBroker();

describe('equivalence', () => {
  it.each([
    ['durable', { durable: true }, {}, 'false', 'true'],
    ['durable', {}, { durable: true }, 'true', 'false'],
    ['auto_delete', { autoDelete: true }, {}, 'false', 'true'],
    ['auto_delete', {}, { autoDelete: true }, 'true', 'false'],
  ])('B6: another %s is 406 inequivalent arg', async (word, declared, again, received, current) => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), {}, declared);
    const text =
      `PRECONDITION_FAILED - inequivalent arg '${word}' for queue '${queue}' ${broker.here}: ` +
      `received '${received}' but current is '${current}'`;
    expect(await channel.refused('queue.declare', { queue, ...again })).toEqual(
      closesChannel(406, text, 'queue.declare'),
    );
  });

  it.each([
    ['x-max-length', {}, { 'x-max-length': 5n }, "received the value '5' of type 'long' but current is none"],
    ['x-max-length', {}, { 'x-max-length': 5 }, "received the value '5' of type 'signedint' but current is none"],
    ['x-max-length', { 'x-max-length': 5 }, {}, "received none but current is the value '5' of type 'signedint'"],
    [
      'x-overflow',
      { 'x-overflow': 'drop-head' },
      { 'x-overflow': 'reject-publish' },
      "received 'reject-publish' but current is 'drop-head'",
    ],
    ['x-message-ttl', { 'x-message-ttl': 1000 }, { 'x-message-ttl': 2000 }, "received '2000' but current is '1000'"],
    ['x-expires', { 'x-expires': 60_000 }, {}, "received none but current is the value '60000' of type 'signedint'"],
    [
      'x-dead-letter-exchange',
      {},
      { 'x-dead-letter-exchange': 'dlx' },
      "received the value 'dlx' of type 'longstr' but current is none",
    ],
    [
      'x-single-active-consumer',
      {},
      { 'x-single-active-consumer': true },
      "received the value 'true' of type 'bool' but current is none",
    ],
    ['x-max-priority', {}, { 'x-max-priority': 5 }, "received the value '5' of type 'signedint' but current is none"],
    [
      'x-max-length-bytes',
      { 'x-max-length-bytes': 1 },
      { 'x-max-length-bytes': 2n },
      "received '2' but current is '1'",
    ],
  ])('B6: another %s is 406 inequivalent arg', async (name, declared, again, difference) => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), declared);
    const text = `PRECONDITION_FAILED - inequivalent arg '${name}' for queue '${queue}' ${broker.here}: ${difference}`;
    expect(await channel.refused('queue.declare', { queue, arguments: again })).toEqual(
      closesChannel(406, text, 'queue.declare'),
    );
  });

  it.each(['b', 'B', 's', 'u', 'I', 'i', 'l'])('B6: an integer of wire type %s equals every other', async (tag) => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-max-length': 5 });
    expect(await channel.queue(queue, { 'x-max-length': typed(tag, 5) })).toBe(queue);
  });

  it('B6: x-queue-type classic is the same as none', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'));
    expect(await channel.queue(queue, { 'x-queue-type': 'classic' })).toBe(queue);
    const other = await channel.queue(broker.fresh('q'), { 'x-queue-type': 'classic' });
    expect(await channel.queue(other)).toBe(other);
  });

  it('B6: arguments that mean nothing to the broker are not compared', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-mine': 'one' });
    expect(await channel.queue(queue, { 'x-mine': 'another', 'x-more': [1, { deep: null }] })).toBe(queue);
  });
});

describe('validity', () => {
  it.each([
    ['x-max-length', { 'x-max-length': -1 }, '{value_negative,-1}'],
    ['x-max-length-bytes', { 'x-max-length-bytes': -5n }, '{value_negative,-5}'],
    ['x-expires', { 'x-expires': 0 }, '{value_zero,0}'],
    ['x-expires', { 'x-expires': -1 }, '{value_negative,-1}'],
    ['x-message-ttl', { 'x-message-ttl': -1 }, '{value_negative,-1}'],
    ['x-max-priority', { 'x-max-priority': -1 }, '{value_negative,-1}'],
    ['x-max-priority', { 'x-max-priority': 256 }, '{max_value_exceeded,256}'],
    ['x-overflow', { 'x-overflow': 'sideways' }, 'invalid_overflow'],
    ['x-overflow', { 'x-overflow': 5 }, '{unacceptable_type,signedint}'],
    ['x-dead-letter-routing-key', { 'x-dead-letter-routing-key': 'k' }, 'routing_key_but_no_dlx_defined'],
    ['x-single-active-consumer', { 'x-single-active-consumer': 'yes' }, '{unacceptable_type,longstr}'],
  ])('B6: %s that cannot be is 406 invalid arg', async (name, args, reason) => {
    const channel = await broker.channel();
    const queue = broker.fresh('q');
    const text = `PRECONDITION_FAILED - invalid arg '${name}' for queue '${queue}' ${broker.here}: ${reason}`;
    expect(await channel.refused('queue.declare', { queue, arguments: args })).toEqual(
      closesChannel(406, text, 'queue.declare'),
    );
  });

  it('B6: x-dead-letter-exchange of a wrong type is 406 invalid type', async () => {
    const channel = await broker.channel();
    const queue = broker.fresh('q');
    const text =
      "PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in " +
      `queue '${queue}' ${broker.here}`;
    expect(await channel.refused('queue.declare', { queue, arguments: { 'x-dead-letter-exchange': 5 } })).toEqual(
      closesChannel(406, text, 'queue.declare'),
    );
  });

  it.each([
    { 'x-max-length': 'five' },
    { 'x-message-ttl': 'soon' },
    { 'x-expires': true },
    { 'x-max-priority': 'high' },
    { 'x-max-length-bytes': 1.5 },
    { 'x-queue-type': 'no-such-type' },
  ])('B6: an argument of the wrong type or value is 406: %j', async (args) => {
    const channel = await broker.channel();
    const queue = broker.fresh('q');
    const [name] = Object.keys(args);
    const refusal = await channel.refused('queue.declare', { queue, arguments: args });
    expect(refusal).toMatchObject({ scope: 'channel', code: 406, method: 'queue.declare' });
    expect(refusal.text).toContain(`PRECONDITION_FAILED - invalid arg '${name}' for queue '${queue}' ${broker.here}: `);
  });

  it.each([
    { 'x-queue-mode': 'lazy' },
    { 'x-queue-mode': 'default' },
    { 'x-max-length': 0 },
    { 'x-message-ttl': 0 },
    { 'x-max-priority': 0 },
    { 'x-max-priority': 255 },
    { 'x-overflow': 'reject-publish-dlx' },
  ])('B6: accepted: %j', async (args) => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), args);
    expect(await channel.queue(queue, args)).toBe(queue);
  });

  it('B6: a refused declaration leaves nothing behind', async () => {
    const connection = await broker.connect();
    const queue = broker.fresh('q');
    const first = await connection.openChannel();
    await first.refused('queue.declare', { queue, arguments: { 'x-max-length': -1 } });
    const second = await connection.openChannel();
    expect(await second.refused('queue.declare', { queue, passive: true })).toMatchObject({ code: 404 });
  });

  it('B6: x-queue-type quorum is accepted for a durable queue and is not classic', async () => {
    const channel = await broker.channel();
    const queue = await channel.queue(broker.fresh('q'), { 'x-queue-type': 'quorum' }, { durable: true });
    const refusal = await channel.refused('queue.declare', { queue, durable: true });
    expect(refusal).toMatchObject({ scope: 'channel', code: 406 });
    expect(refusal.text).toContain("inequivalent arg 'x-queue-type'");
  });

  onlyWarren('it is an alias here, and the snapshot of the broker must not hide that')(
    'B6: a quorum queue is shown as one, durable, with its argument',
    async () => {
      const channel = await broker.channel();
      const queue = await channel.queue(broker.fresh('q'), { 'x-queue-type': 'quorum' }, { durable: true });
      const { queues } = await broker.embedded.snapshot(broker.vhost);
      expect(queues.find(({ name }) => name === queue)).toMatchObject({
        type: 'quorum',
        durable: true,
        arguments: { 'x-queue-type': 'quorum' },
      });
    },
  );
});
