import { once } from 'node:events';
import { type ChannelModel, connect } from 'amqplib';
import { afterEach, describe, expect, it } from 'vitest';
import { eventually } from '../../support/eventually.ts';
import { WarrenProcess } from '../../support/warren-process.ts';

const MIB = 1024 * 1024;
const processes: WarrenProcess[] = [];

afterEach(() => Promise.all(processes.splice(0).map((warren) => warren.stop())));

async function start(...flags: readonly string[]): Promise<WarrenProcess> {
  const warren = await WarrenProcess.start({ flags });
  processes.push(warren);
  return warren;
}

async function dial(warren: WarrenProcess): Promise<ChannelModel> {
  const connection = await connect(warren.amqpUrl);
  connection.on('error', () => {});
  return connection;
}

describe('memory-high-watermark', () => {
  it('holds back publishers as soon as the process is above it', async () => {
    const warren = await start('--memory-high-watermark=1MiB');
    await eventually(() =>
      expect(warren.log.map(({ msg }) => msg)).toContainEqual(expect.stringMatching(/^memory alarm: /)),
    );
    const connection = await dial(warren);
    const channel = await connection.createChannel();
    await channel.assertQueue('held');
    const blocked = once(connection, 'blocked');
    channel.sendToQueue('held', Buffer.from('later'));
    expect(await blocked).toEqual(['low on memory']);
    const other = await (await dial(warren)).createChannel();
    expect((await other.checkQueue('held')).messageCount).toBe(0);
  });

  it('lets them go on when consumers have taken enough, and nothing is lost', async () => {
    const warren = await start('--memory-high-watermark=80MiB');
    const publisher = await dial(warren);
    const channel = await publisher.createConfirmChannel();
    await channel.assertQueue('backlog');
    const blocked = once(publisher, 'blocked');
    const unblocked = once(publisher, 'unblocked');
    for (let count = 0; count < 120; count += 1) channel.sendToQueue('backlog', Buffer.alloc(MIB));
    await blocked;
    const consumer = await (await dial(warren)).createChannel();
    let taken = 0;
    await consumer.consume('backlog', () => (taken += 1), { noAck: true });
    await unblocked;
    await channel.waitForConfirms();
    await eventually(() => expect(taken).toBe(120));
    expect(warren.log.map(({ msg }) => msg)).toContain('memory alarm over: publishers go on');
  });
});
