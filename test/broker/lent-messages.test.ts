/** Octets that are lent: whoever has lent them gets them back when nobody looks at the message any more, and only then. */
import { beforeEach, describe, expect, it } from 'vitest';
import { AMQP_PROPERTIES } from '../../broker/encoding/properties.ts';
import { Message } from '../../broker/message.ts';
import type { Channel, ConsumerEvents } from '../../broker/port.ts';
import { type Core, startCore } from '../support/core.ts';

/** A consumer that copies what it wants. */
class Copier implements ConsumerEvents {
  readonly keepsNothing = true;
  readonly bodies: string[] = [];
  lastTag = 0;

  onDeliver(message: Message, tag: number): void {
    this.bodies.push(Buffer.from(message.body).toString());
    this.lastTag = tag;
  }
}

let core: Core;
let channel: Channel;
let returned = 0;

beforeEach(async () => {
  core = await startCore();
  channel = core.channel();
  returned = 0;
  await channel.declareQueue({ queue: 'q' });
});

/** Publishes a lent message to `exchange`; its octets are overwritten when they come back. */
function lend(exchange = '', routingKey = 'q', on = channel): void {
  const block = AMQP_PROPERTIES.encode({});
  const content = Buffer.concat([block, Buffer.from('lent')]);
  const lender = {
    giveBack: () => {
      returned += 1;
      content.fill(0x21);
    },
  };
  const split = block.length;
  on.publish(
    new Message(exchange, routingKey, content, 0, split, split, content.length, AMQP_PROPERTIES, 0, undefined, lender),
  );
}

async function consume(queue: string, events: ConsumerEvents, noAck: boolean, on = channel): Promise<void> {
  await on.consume({ queue, noAck }, events);
  core.clock.turn();
}

/** Two queues, both bound to amq.fanout. */
async function bindTwo(): Promise<void> {
  await channel.declareQueue({ queue: 'r' });
  for (const destination of ['q', 'r']) {
    await channel.bind({ source: 'amq.fanout', destination, destinationKind: 'queue', bindingKey: '' });
  }
}

describe('octets that were lent come back', () => {
  it('when the message has been handed over, to one or to several', async () => {
    const [first, second] = [new Copier(), new Copier()];
    await bindTwo();
    await consume('q', first, true);
    await consume('r', second, true);
    lend();
    expect(returned).toBe(1);
    lend('amq.fanout');
    expect(returned).toBe(2);
    expect([first.bodies, second.bodies]).toEqual([['lent', 'lent'], ['lent']]);
  });

  it.each([false, true])('when it is acked, multiple: %s', async (multiple) => {
    const copier = new Copier();
    await consume('q', copier, false);
    lend();
    expect(returned).toBe(0);
    channel.ack(copier.lastTag, multiple);
    expect(returned).toBe(1);
  });

  it('when it is acked at last, having been ready and given back before', async () => {
    const copier = new Copier();
    lend();
    await consume('q', copier, false);
    channel.reject(copier.lastTag, { requeue: true });
    expect(returned).toBe(0);
    channel.ack(copier.lastTag);
    expect(copier.bodies).toEqual(['lent', 'lent']);
    expect(returned).toBe(1);
  });

  it('when an ack is committed', async () => {
    const copier = new Copier();
    await consume('q', copier, false);
    await channel.txSelect();
    lend();
    expect(copier.bodies).toEqual([]);
    await channel.txCommit();
    channel.ack(copier.lastTag);
    expect(returned).toBe(0);
    await channel.txCommit();
    expect(returned).toBe(1);
  });
});

describe('octets that were lent never come back', () => {
  it('when some consumer may keep them', async () => {
    const inbox = await core.consume(channel, 'q', { noAck: true });
    lend();
    expect(returned).toBe(0);
    expect(Buffer.from(inbox.delivered[0]?.message.body ?? []).toString()).toBe('lent');
  });

  it('when a consumer that keeps them had the message before', async () => {
    const other = core.channel();
    const inbox = await core.consume(other, 'q');
    lend();
    other.close();
    const copier = new Copier();
    await consume('q', copier, false);
    channel.ack(copier.lastTag);
    expect(copier.bodies).toEqual(['lent']);
    expect(returned).toBe(0);
    expect(Buffer.from(inbox.delivered[0]?.message.body ?? []).toString()).toBe('lent');
  });

  it('when one of several queues that have it lets it go', async () => {
    const copier = new Copier();
    await bindTwo();
    await consume('q', copier, false);
    lend('amq.fanout');
    channel.ack(copier.lastTag);
    expect(returned).toBe(0);
    expect(await core.drainBodies('r')).toEqual(['lent']);
  });

  it('when one of several queues has handed it over', async () => {
    const copier = new Copier();
    await bindTwo();
    await consume('q', copier, true);
    lend('amq.fanout');
    expect(returned).toBe(0);
    expect(await core.drainBodies('r')).toEqual(['lent']);
  });

  it('when it was fetched', async () => {
    lend();
    const got = await channel.get('q');
    channel.ack(got?.deliveryTag ?? 0);
    expect(returned).toBe(0);
    expect(Buffer.from(got?.message.body ?? []).toString()).toBe('lent');
  });

  it('when somebody observes, also if he has stopped since', async () => {
    const seen: Message[] = [];
    const stop = core.broker.observe((event) => void ('message' in event && seen.push(event.message)));
    const copier = new Copier();
    await consume('q', copier, false);
    lend();
    stop();
    channel.ack(copier.lastTag);
    expect(returned).toBe(0);
    expect(seen.map((message) => Buffer.from(message.body).toString())).toContain('lent');
  });

  it('when it dies', async () => {
    await channel.declareQueue({ queue: 'dead' });
    const args = { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': 'dead' };
    await channel.declareQueue({ queue: 'mortal', arguments: args });
    const copier = new Copier();
    await consume('mortal', copier, false);
    lend('', 'mortal');
    channel.reject(copier.lastTag);
    core.clock.turn();
    expect(returned).toBe(0);
    expect(await core.drainBodies('dead')).toEqual(['lent']);
  });

  it('when nobody wants it, or has it yet', async () => {
    lend('', 'nowhere');
    lend();
    expect(returned).toBe(0);
    expect(await core.drainBodies('q')).toEqual(['lent']);
  });
});
