/** How the broker says goodbye: B19, B20. Each test has a broker of its own, in this process. */
import { connect } from 'amqplib';
import { afterEach, describe, expect } from 'vitest';
import { onlyWarren } from '../support/broker-under-test.ts';
import { type EmbeddedWarren, startEmbedded } from '../support/embedded-warren.ts';
import { eventually } from '../support/eventually.ts';
import { type HandshakeOptions, RawConnection } from '../support/raw-amqp.ts';

const it = onlyWarren('it ends the broker');
const opened: (() => unknown)[] = [];

afterEach(async () => {
  await Promise.all(opened.splice(0).map((close) => close()));
});

async function start(): Promise<EmbeddedWarren> {
  const warren = await startEmbedded();
  opened.push(() => warren.close());
  return warren;
}

async function enter(warren: EmbeddedWarren, options: HandshakeOptions = {}): Promise<RawConnection> {
  const connection = await RawConnection.connect(warren);
  opened.push(() => connection.destroy());
  await connection.handshake(options);
  return connection;
}

describe('B20: shutdown', () => {
  it('B20: consumers are cancelled, acks are waited for, then connections are closed with 320', async () => {
    const warren = await start();
    const connection = await enter(warren, { capabilities: { consumer_cancel_notify: true } });
    const channel = await connection.openChannel();
    const queue = await channel.queue('q');
    const consumerTag = await channel.consume(queue);
    await channel.put('', queue, 'being worked on');
    const delivery = await channel.delivery();
    let drained = false;
    const draining = warren.embedded.drain(5000).then(() => {
      drained = true;
    });
    const cancel = await channel.next();
    expect([cancel.name, cancel.args.consumerTag]).toEqual(['basic.cancel', consumerTag]);
    await channel.put('', queue, 'stays');
    expect(await channel.ready(queue)).toBe(1);
    expect(drained).toBe(false);
    channel.ack(delivery.tag);
    await draining;
    await warren.embedded.close();
    const refusal = await connection.control.closed();
    expect([refusal.scope, refusal.code]).toEqual(['connection', 320]);
    expect(refusal.text).toMatch(/^CONNECTION_FORCED - ./);
    await connection.untilEnded();
  });

  it('B20: nobody may begin to consume meanwhile', async () => {
    const warren = await start();
    const channel = await (await enter(warren)).openChannel();
    const queue = await channel.queue('q');
    await warren.embedded.drain(50);
    expect(await channel.refused('basic.consume', { queue })).toMatchObject({
      scope: 'connection',
      code: 320,
      method: 'basic.consume',
    });
  });

  it('B20: acks are waited for only so long', async () => {
    const warren = await start();
    const channel = await (await enter(warren)).openChannel();
    const queue = await channel.queue('q');
    await channel.put('', queue, 'never acked');
    await channel.mustGet(queue);
    const startedAt = performance.now();
    await warren.embedded.drain(100);
    expect(performance.now() - startedAt).toBeGreaterThan(80);
  });

  it('B20: closing the door alone says goodbye with 320 too, and frees the port', async () => {
    const warren = await start();
    const connection = await enter(warren);
    await warren.close();
    expect(connection.closedBy?.code).toBe(320);
    await expect(RawConnection.connect(warren)).rejects.toThrow(/ECONNREFUSED/);
  });
});

describe('B19: clients that reconnect', () => {
  it('B19: for amqplib the 320 of a shutdown is a close, not an error', async () => {
    const warren = await start();
    const model = await connect({ protocol: 'amqp', hostname: warren.host, port: warren.port });
    const heard: string[] = [];
    model.on('error', (error) => heard.push(`error ${error.message}`));
    model.on('close', (error) => heard.push(`close ${error?.message.includes('320')}`));
    await warren.embedded.close();
    await eventually(() => expect(heard).toEqual(['close true']));
  });
});
