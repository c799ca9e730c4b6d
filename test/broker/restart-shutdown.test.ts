/** A shutdown in the middle of something loses nothing that is stored, and settles nothing that has not been done. */
import { expect, it } from 'vitest';
import { createMessage } from '../../broker/message.ts';
import { eventually } from '../support/eventually.ts';
import { Restartable } from '../support/restartable.ts';

it('loses no dead letter that is on its way through many queues', async () => {
  const restartable = await Restartable.start();
  const channel = await restartable.channel();
  // More of them than one turn of the event loop takes.
  const hops = 300;
  const passOn = (index: number) => ({
    'x-max-length': 0,
    'x-dead-letter-exchange': '',
    'x-dead-letter-routing-key': `q${index + 1}`,
  });
  await Promise.all(
    Array.from({ length: hops }, (_, index) =>
      channel.declareQueue({ queue: `q${index}`, durable: true, arguments: passOn(index) }),
    ),
  );
  await channel.declareQueue({ queue: `q${hops}`, durable: true });
  channel.publish(createMessage({ routingKey: 'q0', body: 'x', properties: { deliveryMode: 2 } }));
  const ready = async (): Promise<readonly string[]> =>
    (await restartable.broker.snapshot('/')).queues
      .filter(({ messagesReady }) => messagesReady > 0)
      .map(({ name }) => name);
  expect(await ready()).toEqual([]);
  await restartable.restart();
  await eventually(async () => expect(await ready()).toEqual([`q${hops}`]));
});

it('tells an administrator who comes too late that nothing is kept any more', async () => {
  const restartable = await Restartable.start();
  const { administration } = restartable;
  await restartable.broker.close();
  await expect(administration.putVhost({ name: 'late' })).rejects.toMatchObject({ kind: 'connection-forced' });
  await restartable.restart();
  expect((await restartable.administration.vhosts()).map(({ name }) => name)).toEqual(['/']);
});

it('keeps what was still being written', async () => {
  const restartable = await Restartable.start();
  const { administration } = restartable;
  const verbs = Promise.all(['a', 'b', 'c'].map((name) => administration.putVhost({ name })));
  await restartable.restart();
  await verbs;
  expect((await restartable.administration.vhosts()).map(({ name }) => name)).toEqual(['/', 'a', 'b', 'c']);
});
