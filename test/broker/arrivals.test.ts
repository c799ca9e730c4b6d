import { expect, it } from 'vitest';
import { createMessage } from '../../broker/message.ts';
import { header, startCore } from '../support/core.ts';

it('a queue with x-stamp-arrivals says in a header when a message came, and no other queue does', async () => {
  const core = await startCore();
  const channel = core.channel();
  await channel.declareQueue({ queue: 'stamped', durable: true, arguments: { 'x-stamp-arrivals': true } });
  await channel.declareQueue({ queue: 'plain' });
  for (const queue of ['stamped', 'plain']) {
    await channel.bind({ source: 'amq.fanout', destination: queue, destinationKind: 'queue', bindingKey: '' });
  }
  const nowMs = core.clock.now();
  const headers = { 'x-arrived-at': 'a lie', other: 1 };
  channel.publish(createMessage({ exchange: 'amq.fanout', body: 'm', properties: { headers } }));
  const [stamped, plain] = [await channel.get('stamped'), await channel.get('plain')];
  expect(header(stamped?.message, 'x-arrived-at')).toBe(BigInt(nowMs));
  expect(header(stamped?.message, 'other')).toBe(1);
  expect(header(plain?.message, 'x-arrived-at')).toBe('a lie');
  // Others may declare it without knowing.
  expect(await channel.declareQueue({ queue: 'stamped', durable: true })).toMatchObject({ queue: 'stamped' });
  await core.broker.close();
});
