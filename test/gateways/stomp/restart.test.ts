/** STOMP over a data folder: what a receipt has promised is there after a restart, what was never committed is not. */
import { expect, it, onTestFinished } from 'vitest';
import { startStompGateway } from '../../../gateways/stomp/gateway.ts';
import { LISTENER } from '../../interop/clients.ts';
import { type Headers, RawStomp } from '../../support/raw-stomp.ts';
import { Restartable } from '../../support/restartable.ts';

async function openDoor(restartable: Restartable): Promise<{ connect(): Promise<RawStomp> }> {
  const gateway = await startStompGateway(restartable.broker, LISTENER);
  onTestFinished(() => gateway.close());
  return {
    async connect() {
      const client = await RawStomp.open(gateway.addresses[0]?.port ?? 0);
      onTestFinished(() => client.destroy());
      expect((await client.login()).command).toBe('CONNECTED');
      return client;
    },
  };
}

it('a durable subscription keeps its messages, unacked ones among them; an open transaction leaves nothing', async () => {
  const durable: Headers = {
    id: 'd',
    destination: '/topic/kept.*',
    durable: true,
    'auto-delete': false,
    ack: 'client',
  };
  const restartable = await Restartable.start();
  const first = await (await openDoor(restartable)).connect();
  await first.call('SUBSCRIBE', durable);
  const send = { destination: '/topic/kept.a', persistent: true, priority: 3, mine: 'a\\cb' };
  const body = Buffer.from([0, 255, 10, 0]);
  await first.call('SEND', { ...send, 'content-length': body.length }, body);
  expect((await first.next()).headers.redelivered).toBe('false');
  await first.call('BEGIN', { transaction: 't' });
  first.send('SEND', { ...send, transaction: 't' }, 'never committed');
  await restartable.restart();
  const second = await (await openDoor(restartable)).connect();
  await second.call('SUBSCRIBE', durable);
  const again = await second.next();
  expect(again.headers).toMatchObject({
    destination: '/topic/kept.a',
    redelivered: 'true',
    persistent: 'true',
    priority: '3',
    mine: 'a:b',
  });
  expect(again.body).toBe(body.toString('latin1'));
  await second.call('ACK', { id: again.headers.ack ?? '' });
  expect(second.waiting).toEqual([]);
});
