/** What a broker does while its disk takes nothing, or takes its time. The disk is in memory, the store the real one. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createMessage } from '../../broker/message.ts';
import type { Broker, Channel } from '../../broker/port.ts';
import { BEHIND_BYTES } from '../../broker/storage/log-store.ts';
import { eventually } from '../support/eventually.ts';
import { brokerOn } from '../support/faulty-disk-broker.ts';
import { FaultyFiles } from '../support/faulty-files.ts';

const TURNS = 50;

/** Long enough for anything that was going to happen without the disk. */
async function turns(): Promise<void> {
  for (let count = 0; count < TURNS; count++) await new Promise<void>((resolve) => setImmediate(resolve));
}

describe('while the disk takes nothing', () => {
  let files: FaultyFiles;
  let broker: Broker;
  let channel: Channel;
  let confirmed: number;
  let flow: boolean[];
  let letGo: () => void;

  beforeEach(async () => {
    files = new FaultyFiles();
    broker = await brokerOn(files);
    confirmed = 0;
    flow = [];
    const connection = await broker.connect(undefined, '/', { onFlow: (held) => void flow.push(held) });
    channel = connection.openChannel({
      onConfirm: (sequence) => {
        confirmed = sequence;
      },
    });
    await channel.declareQueue({ queue: 'q', durable: true });
    await channel.confirmSelect();
    letGo = files.hold({ call: 'sync' });
  });

  afterEach(async () => {
    letGo();
    await broker.close();
  });

  function publish(body: string | Uint8Array): void {
    channel.publish(createMessage({ routingKey: 'q', body, properties: { deliveryMode: 2 } }));
  }

  it('confirms nothing that has to be on it, delivers, and confirms when it is', async () => {
    publish('1');
    await turns();
    const got = await channel.get('q');
    expect(got && new TextDecoder().decode(got.message.body)).toBe('1');
    expect(confirmed).toBe(0);
    letGo();
    await eventually(() => expect(confirmed).toBe(1));
  });

  it('answers who declares what is there already, and lets who declares something new wait', async () => {
    publish('1');
    await turns();
    await expect(channel.declareQueue({ queue: 'q', durable: true })).resolves.toMatchObject({ messageCount: 1 });
    let answered = false;
    const declaring = channel.declareQueue({ queue: 'new', durable: true }).then(() => {
      answered = true;
    });
    await turns();
    expect(answered).toBe(false);
    letGo();
    await declaring;
  });

  it('holds publishers back when too much waits to be written, and lets them go on when half of it is', async () => {
    const body = new Uint8Array(1024 * 1024);
    for (let count = 0; count * body.length <= BEHIND_BYTES; count++) {
      publish(body);
      if (count % 8 === 0) await turns();
    }
    expect(flow).toEqual([true]);
    const late: boolean[] = [];
    await broker.connect(undefined, '/', { onFlow: (held) => void late.push(held) });
    await turns();
    expect(late).toEqual([true]);
    letGo();
    await eventually(() => expect(flow).toEqual([true, false]));
    expect(late).toEqual([true, false]);
  });
});
